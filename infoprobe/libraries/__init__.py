"""What the invertible maps of other people's libraries look like: one adapter for each library.

None of the libraries is imported here: unless the user has imported a library, there is nothing
of it to recognise.
"""

from infoprobe.libraries.adapter import Graph, Library, Part
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.libraries.lookup import library_of, register, unregister

__all__ = ["Graph", "Library", "LogDeterminant", "Part", "library_of", "register", "unregister"]


def __dir__() -> list[str]:
    """Returns the public names, which are those that completion shows."""
    return __all__
