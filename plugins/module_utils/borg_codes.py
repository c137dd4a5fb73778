# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What borg's exit codes mean (BORG_EXIT_CODES=modern, borg 1.4) and how bad each is.

An unknown code is an error: a code that this table does not know must not pass for a success.
"""

from __future__ import annotations

import dataclasses

SUCCESS = "success"
WARNING = "warning"
ERROR = "error"


@dataclasses.dataclass(frozen=True)
class ExitCode:
    """One exit code of borg: its name there, its severity, what to do about it."""

    code: int
    name: str
    severity: str
    meaning: str
    hint: str = ""


_TABLE = (
    (0, "Success", SUCCESS, "borg succeeded", ""),
    (1, "BorgWarning", WARNING, "borg ended with a warning", ""),
    (2, "Error", ERROR, "borg failed", "read borg's messages above"),
    (3, "CancelledByUser", ERROR, "borg was cancelled", ""),
    (4, "CommandError", ERROR, "borg was called wrongly", "report this as a bug of lifeboat"),
    (5, "PlaceholderError", ERROR, "a placeholder could not be filled in", ""),
    (6, "InvalidPlaceholder", ERROR, "an unknown placeholder was used", ""),
    (10, "AlreadyExists", ERROR, "a repository exists there already", ""),
    (11, "AtticRepository", ERROR, "the repository is of attic, not of borg", ""),
    (12, "CheckNeeded", ERROR, "the repository is inconsistent", "run playbooks/custody.yml"),
    (13, "DoesNotExist", ERROR, "no repository there", "is it mounted, was it moved or destroyed? see playbooks/rollback.yml"),
    (14, "InsufficientFreeSpaceError", ERROR, "the repository's disk is full", "free space on the repository host; nothing was lost"),
    (15, "InvalidRepository", ERROR, "not a valid repository", "see playbooks/rollback.yml"),
    (16, "InvalidRepositoryConfig", ERROR, "the repository's config is not valid", "see playbooks/rollback.yml"),
    (17, "ObjectNotFound", ERROR, "an object is missing in the repository", "run playbooks/custody.yml"),
    (18, "ParentPathDoesNotExist", ERROR, "the parent of the repository does not exist", ""),
    (19, "PathAlreadyExists", ERROR, "something exists at the repository's path", ""),
    (20, "StorageQuotaExceeded", ERROR, "the storage quota is exceeded", "raise repository_quota or let custody.yml apply the retention"),
    (21, "PathPermissionDenied", ERROR, "no permission for the repository's path", ""),
    (25, "MandatoryFeatureUnsupported", ERROR, "the repository needs a newer borg", ""),
    (26, "NoManifestError", ERROR, "the repository has no manifest", "see playbooks/rollback.yml"),
    (27, "UnsupportedManifestError", ERROR, "the manifest needs a newer borg", ""),
    (30, "ArchiveAlreadyExists", ERROR, "an archive of that name exists", ""),
    (31, "ArchiveDoesNotExist", ERROR, "no archive of that name", "list the archives first"),
    (32, "IncompatibleFilesystemEncodingError", ERROR, "a file name cannot be encoded", ""),
    (40, "KeyfileInvalidError", ERROR, "the key file is not valid", "import the escrowed key"),
    (41, "KeyfileMismatchError", ERROR, "the repository there is not the pinned one", "its id changed: do not trust it, see playbooks/rollback.yml"),
    (42, "KeyfileNotFoundError", ERROR, "no key for this repository", "its id changed, or import the escrowed key"),
    (43, "NotABorgKeyFile", ERROR, "not a key export of borg", ""),
    (44, "RepoKeyNotFoundError", ERROR, "no key in the repository", ""),
    (45, "RepoIdMismatch", ERROR, "this key belongs to another repository", ""),
    (46, "UnencryptedRepo", ERROR, "the repository is not encrypted", ""),
    (47, "UnknownKeyType", ERROR, "unknown key type", ""),
    (48, "UnsupportedPayloadError", ERROR, "the payload needs a newer borg", ""),
    (50, "NoPassphraseFailure", ERROR, "no passphrase was given", "check the passphrase credential"),
    (51, "PasscommandFailure", ERROR, "the passphrase command failed", ""),
    (52, "PassphraseWrong", ERROR, "the passphrase is wrong", "roll out the escrowed passphrase again with playbooks/site.yml"),
    (53, "PasswordRetriesExceeded", ERROR, "too many wrong passphrases", ""),
    (60, "CacheInitAbortedError", ERROR, "borg refused an unknown repository", "its encryption or id is not what was pinned"),
    (61, "EncryptionMethodMismatch", ERROR, "the repository's encryption changed", "do not trust it, see playbooks/rollback.yml"),
    (62, "RepositoryAccessAborted", ERROR, "borg refused a moved repository", "the url changed: roll out again with playbooks/site.yml"),
    (63, "RepositoryIDNotUnique", ERROR, "two repositories with one id", ""),
    (64, "RepositoryReplay", ERROR, "the repository is older than this box remembers", "it was rolled back, or replaced by an old copy: see docs on rollback"),
    (70, "LockError", ERROR, "the repository could not be locked", ""),
    (71, "LockErrorT", ERROR, "the repository could not be locked", ""),
    (72, "LockFailed", ERROR, "the repository could not be locked", "no space or no permission on the repository host"),
    (73, "LockTimeout", ERROR, "the repository stayed locked", "another run or maintenance holds it; the next run tries again"),
    (74, "NotLocked", ERROR, "the lock was gone", ""),
    (75, "NotMyLock", ERROR, "the repository is in maintenance, or locked by another", "the next run tries again"),
    (80, "ConnectionClosed", ERROR, "the connection was closed", "is the repository host up, is it in maintenance, did its host key change?"),
    (81, "ConnectionClosedWithHint", ERROR, "the connection was closed", "is borg installed on the repository host, is the key accepted?"),
    (82, "InvalidRPCMethod", ERROR, "the server does not know a call", "borg versions differ"),
    (83, "PathNotAllowed", ERROR, "this key may not use that path", "the url and the forced command differ: roll out again with playbooks/site.yml"),
    (84, "RPCServerOutdated", ERROR, "borg on the server is too old", ""),
    (85, "UnexpectedRPCDataFormatFromClient", ERROR, "the server could not read the client", ""),
    (86, "UnexpectedRPCDataFormatFromServer", ERROR, "the client could not read the server", "does the login print text?"),
    (87, "ConnectionBrokenWithHint", ERROR, "the connection broke", "the next run goes on where this one stopped"),
    (90, "IntegrityError", ERROR, "data in the repository is damaged", "run playbooks/custody.yml, then a drill"),
    (91, "FileIntegrityError", ERROR, "a file of borg is damaged", "borg rebuilds its cache: try again"),
    (92, "DecompressionError", ERROR, "data in the repository is damaged", ""),
    (95, "ArchiveTAMInvalid", ERROR, "an archive is not authentic", "do not trust the repository, see playbooks/rollback.yml"),
    (96, "ArchiveTAMRequiredError", ERROR, "an archive is not authenticated", "do not trust the repository"),
    (97, "TAMInvalid", ERROR, "the manifest is not authentic", "do not trust the repository, see playbooks/rollback.yml"),
    (98, "TAMRequiredError", ERROR, "the manifest is not authenticated", "do not trust the repository"),
    (99, "TAMUnsupportedSuiteError", ERROR, "the manifest needs a newer borg", ""),
    (100, "FileChangedWarning", WARNING, "a file changed while it was read", ""),
    (101, "IncludePatternNeverMatchedWarning", WARNING, "a path was not found in the archive", ""),
    (102, "BackupError", WARNING, "a file could not be backed up", ""),
    (103, "BackupRaceConditionError", WARNING, "a file was replaced while it was read", ""),
    (104, "BackupOSError", WARNING, "a file could not be read", ""),
    (105, "BackupPermissionError", WARNING, "no permission for a file", ""),
    (106, "BackupIOError", WARNING, "the disk failed while a file was read", "check the box's disk"),
    (107, "BackupFileNotFoundError", WARNING, "a file vanished before it was read", ""),
    (108, "BackupSymlinkParentError", WARNING, "a parent became a symlink while reading", ""),
    (109, "BackupPathTraversalError", WARNING, "a path left its folder", ""),
)  # fmt: skip

TABLE = {row[0]: ExitCode(*row) for row in _TABLE}


def explain(code: int) -> ExitCode:
    """The entry of the table; a signal or an unknown code is an error."""
    if code in TABLE:
        return TABLE[code]
    number = -code if code < 0 else code - 128 if 128 < code < 192 else 0
    if number:
        return ExitCode(code, "Signal", ERROR, f"borg was ended by signal {number}")
    return ExitCode(code, "Unknown", ERROR, f"borg ended with the unknown code {code}")
