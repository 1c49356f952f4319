from attar.plasma.artefact import Run as Run
from attar.plasma.cooling import Cooling as Cooling
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz as KelvinHelmholtz
from attar.plasma.losses import LossTable as LossTable
from attar.plasma.riemann import hllc as hllc
from attar.plasma.states import Grid as Grid
from attar.plasma.units import Units as Units
