"""Data sets that belong together: ``oodles suite check`` and ``oodles suite list``."""

from typing import Annotated

from tyro.conf import Positional, arg

from oodles.cli.flags import (
    Folders,
    OptionalPath,
)
from oodles.cli.shown import print_json, print_result


def suite_check(
    suite: Annotated[str, Positional, arg(metavar="SUITE")],
    /,
    *,
    root: Folders = (),
    to: OptionalPath = None,
    json: bool = False,
) -> int:
    """Read every row of a suite, count them by set and class, and find those that are in two sets.

    The exit code is 1 where a row is in two sets.

    Args:
        suite: a suite that `oodles suite list` names, a .toml file or a folder.
        root: folder that holds the files of the suite.
        to: also draw some images of every set, into a .png file.
        json: print one JSON document.
    """
    from oodles.data.suite_check import check_suite, write_sheet

    checked = check_suite(suite, root)
    if to is not None:
        write_sheet(checked.suite, to)
    if json:
        print_json(checked.as_dict())
    else:
        print_result(checked)
    return 1 if checked.overlaps else 0


def suite_list(*, root: Folders = (), json: bool = False) -> None:
    """List the suites that come with the package, and whether their files are there.

    Args:
        root: folder that holds files of suites.
        json: print one JSON document.
    """
    from oodles.data.suite_check import suite_list as list_suites

    suites = list_suites(root)
    if json:
        print_json(suites)
    else:
        lines = (
            f"{suite['name']:21}{suite['holds']}\n{'':21}{suite['missing'] or 'All is there.'}" for suite in suites
        )
        print_result("\n".join(lines))
