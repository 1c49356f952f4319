"""The verbs of the command line: the arguments of each, what it does, and its group in the help."""

MAKING = ("condense", "compress", "distill", "train", "calibrate", "simulate")
"""Verbs that make something by a method; they have one face."""
VERBS = {
    "condense": ("METHOD", "turn a labelled data set into a few samples per class"),
    "compress": ("METHOD", "make a mixture or a network's convolutions smaller"),
    "distill": ("METHOD", "train a small student from a trained teacher"),
    "train": ("METHOD", "train a classifier, an encoder, or experts"),
    "calibrate": ("METHOD", "make a classifier's confidence match its accuracy"),
    "simulate": ("METHOD", "simulate a fluid, or what is seen of one"),
    "label": ("FOLDER", "store a teacher's answers, from which students learn"),
    "import": ("FILES", "turn a released set (.pt, pictures) into an artefact"),
    "evaluate": ("FOLDERS", "measure how much artefacts keep"),
    "report": ("FOLDER", "show everything below a folder on one static page"),
    "bench": ("TABLE", "measure a table of methods, beside published figures"),
    "methods": ("[KIND]", "list the methods, one line each"),
    "data": ("DATA", "print what attar reads from a data set"),
    "cite": ("METHOD", "print the paper of a method, as BibTeX"),
    "cache": ("", "print what lies in the cache, and make room in it"),
    "push": ("FOLDER user/name", "upload an artefact to the hub"),
}
"""Verb: what follows it, and what it does. Its code is `attar.commands.VERB`, or `attar.commands.making`."""
GROUPS = {
    "make something": ("condense", "compress", "distill", "train", "calibrate", "simulate", "label", "import"),
    "measure and show": ("evaluate", "report", "bench"),
    "look up and share": ("methods", "data", "cite", "cache", "push"),
}
"""Verbs by what they are for, in the order of `attar --help`."""
ONCE = (*GROUPS["look up and share"], "report")
"""Verbs that only the first of several processes carries out."""
