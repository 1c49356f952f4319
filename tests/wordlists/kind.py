"""Lists of words."""

from attar.core.kinds import Kind

KIND = Kind(
    name="words",
    package="wordlists",
    holds="lists of words",
    makes="the commonest words",
    artefact="wordlists.words:CommonWords",
    reading="wordlists.words:Reading",
    tasks={"condense": "attar.core.tasks:Task"},
    scoring="wordlists.words:Scoring",
    forms="wordlists.words:looks_like",
    bundled="proverb",
    size="count",
    data="proverb, or a .words file with a word a line",
)
