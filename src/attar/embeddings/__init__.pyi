from attar.embeddings.artefact import TrainedEncoder as TrainedEncoder
from attar.embeddings.data.load import load as load
from attar.embeddings.data.load import mosaics_of as mosaics_of
from attar.embeddings.selfsup.simclr import SimCLR as SimCLR
from attar.embeddings.sources import Source as Source
