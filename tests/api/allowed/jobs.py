"""Tasks that nobody registers."""

from os.path import basename

called: list[str] = []


async def in_a_package(text: str) -> str:
    called.append(text)
    return basename(text)
