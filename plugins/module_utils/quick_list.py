# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`borg list` of an archive, in the one format that a comparison needs, in half the time.

A program for borg's own interpreter: `quick_list.py BORG ARGUMENT...`, the arguments being those of
a `borg list --format`. It loads borg and waits for a byte on its standard input, so that it can be
started while the archive is still being made; the end of the input instead of a byte ends it. It
then is borg in all but how an item is put into words: its locks, key, checks, messages and exit
code. Where this borg has no place for that, it is `borg list` itself.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import Any


def formatter_of(archiver: Any) -> type[Any]:
    """borg's own formatter, with the six fields put together by hand."""

    class SixFields(archiver.ItemFormatter):
        """`{type} {mode} {uid} {gid} {size} {bpath}{NUL}`"""

        def format_item(self, item: Any) -> str:
            mode = stat.filemode(item.mode)
            kind = mode[0]
            if kind != "l" and item.get("source"):
                mode = "h" + mode[1:]  # a hard link
            size = item.get_size(compressed=False)
            return f"{kind} {mode} {item.uid} {item.gid} {size} {item.path}\0"

    return SixFields


def main() -> None:
    """Load, wait, list; borg ends the process."""
    command = sys.argv[1:]
    try:
        from borg import archiver

        formatter = formatter_of(archiver)
    except (ImportError, AttributeError):
        archiver = None
    if not os.read(0, 1):
        return
    if archiver is None:
        os.execv(command[0], command)
    archiver.ItemFormatter = formatter
    sys.argv = command
    archiver.main()


if __name__ == "__main__":
    main()
