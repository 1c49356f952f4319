"""Pictures of what was measured."""


def keep(artefacts, found):
    """Nothing yet."""
