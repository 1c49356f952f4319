"""Causal language models."""

from attar.core.kinds import Kind

KIND = Kind(
    name="language",
    holds="causal language models",
    makes="a student",
    artefact="attar.language.answers:StoredLanguage",
    reading="attar.language.reading:Reading",
    forms="attar.language.reading:looks_like",
    tasks={"distill": "attar.language.tasks:Distill", "label": "attar.language.tasks:Label"},
    scoring="attar.language.scoring:Scoring",
    bundled="phrases",
    data="phrases (generated), a file of JSON lines or of text, a folder of such, or a name on the hub",
    extra="transformers",
)
