"""At the end of all of it: the history of before, bit for bit, and honest nights."""

from __future__ import annotations

from conftest import World


def test_every_archive_of_before_extracts_bit_for_bit(
    world: World, before: dict[str, dict[str, str]]
) -> None:
    for name, archives in before.items():
        after = world.contents(name)
        assert archives.items() <= after.items(), name


def test_the_evidence_is_kept(world: World) -> None:
    kept = world.hosts["journal"].run("find /srv/lifeboat/evidence -type f | wc -l")
    assert int(kept.stdout) > 10
    assert world.hosts["journal"].file("/srv/lifeboat/evidence").mode & 0o077 == 0


def test_honest_backups_and_custody_go_on(world: World) -> None:
    assert world.box.run("lifeboat backup hal").rc == 0
    # A week of stories in an hour: more backups than nights, which somebody has to explain.
    said = world.play("custody.yml", "-e", "agent=hal")
    assert said.returncode == 0 or "more archives arrived than nights have passed" in said.stdout
    explained = "resolve='the box was taken over, and is ours again'"
    for repository in ("guarded", "journal"):
        named = ("-e", "agent=hal", "-e", f"repository={repository}")
        done = world.play("custody.yml", *named, "-e", explained)
        assert done.returncode == 0, done.stdout[-3000:]
