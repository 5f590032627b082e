"""English enough for captions: plurals, articles, numbers and lists of things."""

import re
from collections.abc import Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "ox": "oxen",
    "die": "dice",
    "cactus": "cacti",
    "bus": "buses",
    "gas": "gases",
    "quiz": "quizzes",
}
WITH_VES = {
    "calf",
    "half",
    "knife",
    "leaf",
    "life",
    "loaf",
    "scarf",
    "shelf",
    "thief",
    "wife",
    "wolf",
}
WITH_OES = {
    "echo",
    "hero",
    "mango",
    "mosquito",
    "potato",
    "tomato",
    "tornado",
    "torpedo",
    "volcano",
}
UNCHANGED = {
    "aircraft",
    "bison",
    "broccoli",
    "cattle",
    "deer",
    "fish",
    "moose",
    "offspring",
    "salmon",
    "series",
    "sheep",
    "shrimp",
    "species",
    "squid",
    "swine",
    "trout",
}
PAIRS = {
    "binoculars",
    "glasses",
    "goggles",
    "jeans",
    "pants",
    "pliers",
    "scissors",
    "shorts",
    "skis",
    "trousers",
}
MAN = re.compile(r"(?<=[a-z])(?<!hu)(?<!ger)(?<!sha)man$")
"""Of words that are formed as woman: fireman, snowman; not human, German, shaman."""
CONSONANT_SOUND = re.compile(r"(uni(?!n|m)|use|usu|uten|ufo|eu|ewe|one\b|once)", re.IGNORECASE)
VOWEL_SOUND = re.compile(r"([aeiou]|hour|honest|heir)", re.IGNORECASE)
LETTERS = re.compile(r"[A-Z]([A-Z0-9]|\b)")
"""Of a word that is spelt: SUV, X-ray."""


def plural(name: str) -> str:
    """More than one of a thing: "wine glass" -> "wine glasses", "cup of tea" -> "cups of tea"."""
    head, of, rest = re.match(r"(.*?)( (?:of|with|in|on|for) |$)(.*)", name).groups()  # type: ignore[union-attr]
    if of:
        return plural(head) + of + rest
    before, last = re.match(r"(.*?)([^\s-]*)$", name).groups()  # type: ignore[union-attr]
    return before + _plural_word(last)


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in UNCHANGED or lower in PAIRS or not lower[-1:].isalpha():
        return word
    if lower in IRREGULAR:
        return word[0] + IRREGULAR[lower][1:]
    if MAN.search(lower):
        return word[:-2] + "en"
    if lower in WITH_VES:
        return re.sub("fe?$", "ves", word)
    if lower in WITH_OES or re.search("(s|x|z|ch|sh)$", lower):
        return word + "es"
    return word[:-1] + "ies" if re.search("[^aeiou]y$", lower) else word + "s"


def article(name: str) -> str:
    """ "a" or "an", by how the name sounds."""
    if LETTERS.match(name):
        return "an" if name[0] in "AEFHILMNORSX" else "a"
    return "an" if VOWEL_SOUND.match(name) and not CONSONANT_SOUND.match(name) else "a"


def counted(name: str, count: int, more: str | None = None) -> str:
    """So many of a thing: "a dog", "two dogs", "13 dogs", "two pairs of scissors".

    more: its plural, if it is none that can be told.
    """
    paired = name.split()[-1].lower() in PAIRS
    one = f"pair of {name}" if paired else name
    if count == 1:
        return f"{article(one)} {one}"
    number = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{number} {more or plural(one)}"


def listed(things: Sequence[str]) -> str:
    """ "a dog", "a dog and a ball", "a dog, a cat and a ball"."""
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)
