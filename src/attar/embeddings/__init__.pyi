from attar.embeddings.artefact import TrainedEncoder as TrainedEncoder
from attar.embeddings.selfsup.simclr import SimCLR as SimCLR
from attar.embeddings.sources import Source as Source
