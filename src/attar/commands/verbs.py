"""The verbs of the command line: what follows each, what it does, and what it is for."""

MAKING = ("condense", "compress", "distill", "train")
"""Verbs that make something by a method; they have one face."""
VERBS = {
    "condense": ("METHOD", "a labelled data set into a few samples per class"),
    "compress": ("METHOD", "a mixture or a network's convolutions into fewer bytes"),
    "distill": ("METHOD", "a trained model, the teacher, into a smaller student"),
    "train": ("METHOD", "what methods build on: experts for trajectory matching"),
    "label": ("FOLDER", "store a teacher's answers beside a condensed set"),
    "import": ("FILES", "a released set (.pt, pictures) into an artefact"),
    "evaluate": ("FOLDERS", "measure what artefacts have kept"),
    "report": ("FOLDER", "everything below a folder, as one static page"),
    "bench": ("TABLE", "a table of methods, beside the published figures"),
    "methods": ("[KIND]", "what methods there are, one line each"),
    "data": ("DATA", "what a data set holds, as attar reads it"),
    "cite": ("METHOD", "a method's paper, as BibTeX"),
    "push": ("FOLDER user/name", "upload an artefact to the hub"),
}
"""Verb: what follows it, and what it does. Its code is `attar.commands.VERB`, or `attar.commands.making`."""
GROUPS = {
    "make something": ("condense", "compress", "distill", "train", "label", "import"),
    "measure and show": ("evaluate", "report", "bench"),
    "look up": ("methods", "data", "cite"),
    "share": ("push",),
}
"""Verbs by what they are for, in the order of `attar --help`."""
