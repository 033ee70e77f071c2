"""Rows that may become outliers: ``oodles outliers check``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from oodles.cli.flags import Folders, OptionalFraction, OptionalName, OptionalPath
from oodles.cli.shown import print_json, print_result


def outliers_check(
    pool: Annotated[Path, Positional, arg(metavar="POOL")],
    /,
    *,
    data: OptionalName = None,
    run: OptionalPath = None,
    score: OptionalName = None,
    false_alarms: OptionalFraction = None,
    drop: OptionalPath = None,
    report: OptionalPath = None,
    root: Folders = (),
    network: OptionalName = None,
    json: bool = False,
) -> int:
    """Look through outliers before training with them: copies of a suite's rows, rows of its classes, sharpness.

    The exit code is 1 where rows of the pool are in the suite too, exactly or nearly.

    Args:
        pool: a folder of images, an .npz or .npy file, a table or texts, as the suite holds them.
        data: the suite, one that `oodles suite list` names, a .toml file or a folder; that of --run unless given.
        run: a run folder, or the folder of a saved detector: also find rows that it takes for known classes.
        score: the run's outlier score; its own unless given.
        false_alarms: share of known rows that the run may refuse, 0.05 unless given; more take fewer rows for known.
        drop: write the rows that remain into a file, a `list` for suites.
        report: write an HTML page with pictures of what was found.
        root: folder that holds the files of the suite.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        json: print one JSON document.
    """
    from oodles.screening.check import check_outliers

    checked = check_outliers(
        pool,
        data,
        run=run,
        score=score,
        false_alarms=false_alarms,
        drop=drop,
        report=report,
        root=root,
        network=network,
    )
    if json:
        print_json(checked.as_dict())
    else:
        print_result(checked if drop is None or not len(checked.kept) else f"{checked}\n{checked.usage(drop)}")
    return 1 if len(checked.copies) else 0
