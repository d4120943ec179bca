"""The watcher tells of every way that files change, and of no half-written one."""
import asyncio
import contextlib
import errno
import os

import pytest
import uvloop

from gwfast.config.files import obstacle
from gwfast.serve import watch
from gwfast.serve.inotify import INotify
from gwfast.serve.watch import Watcher


class Seen:
    """What a watcher told, until something expected is in it."""

    def __init__(self):
        self.paths: set[str] = set()
        self.calls = 0
        self.all = False
        self.warnings: list[str] = []
        self.event = asyncio.Event()

    def changed(self, paths):
        self.calls += 1
        self.all |= paths is None
        self.paths |= paths or set()
        self.event.set()

    async def until(self, *expected):
        expected = {str(path) for path in expected}
        async with asyncio.timeout(10):
            while not expected <= self.paths:
                self.event.clear()
                await self.event.wait()


def watching(paths, scenario):
    async def main():
        seen = Seen()
        watcher = Watcher(asyncio.get_running_loop(), [str(path) for path in paths], seen.changed, seen.warnings.append)
        with contextlib.closing(watcher):
            await scenario(seen, watcher)
    uvloop.run(main())


def write(path, text="a: 1\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rename_over(path):
    other = path.with_name("." + path.name + ".swp")
    other.write_text("b: 2\n")
    other.rename(path)


CHANGES = {
    "written": lambda path: path.write_text("b: 2\n"),
    "appended": lambda path: path.open("a").close(),
    "editor renames over it": rename_over,
    "editor moves it away and writes anew": lambda path: (path.rename(f"{path}~"), path.write_text("b: 2\n")),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("given", ["the file", "its folder", "a folder above"])
def test_a_changed_file(tmp_path, given, change):
    path = write(tmp_path / "conf" / "deep" / "a.yaml")

    async def scenario(seen, _):
        change(path)
        await seen.until(path)
    watching([{"the file": path, "its folder": path.parent, "a folder above": tmp_path / "conf"}[given]], scenario)


def test_a_new_folder_is_watched_with_what_is_below(tmp_path):
    async def scenario(seen, _):
        path = write(tmp_path / "new" / "deeper" / "a.yaml")
        await seen.until(tmp_path / "new")
        seen.paths.clear()
        path.write_text("b: 2\n")
        await seen.until(path)
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
        await seen.until(path.parent.parent)
        write(path)
        seen.paths.clear()
        await seen.until(path.parent.parent)
    watching([tmp_path], scenario)


def test_the_folder_itself_is_replaced(tmp_path):
    folder = tmp_path / "conf"
    write(folder / "a.yaml")

    async def scenario(seen, _):
        folder.rename(tmp_path / "old")
        write(tmp_path / "new" / "b.yaml")
        (tmp_path / "new").rename(folder)
        await seen.until(folder)
        seen.paths.clear()
        (folder / "b.yaml").write_text("b: 2\n")
        await seen.until(folder / "b.yaml")
    watching([folder], scenario)


def mount(folder, version, text):
    """Write a version of a ConfigMap as a kubelet does: new folder, new link, one rename."""
    write(folder / f"..{version}" / "a.yaml", text)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").rename(folder / "..data")
    if not (folder / "a.yaml").is_symlink():
        (folder / "a.yaml").symlink_to("..data/a.yaml")


@pytest.mark.parametrize("given", ["", "a.yaml", "..data/a.yaml"], ids=["folder", "file", "through the link"])
def test_a_mounted_configmap_swaps_its_link(tmp_path, given):
    mount(tmp_path, "1", "one")
    path = tmp_path / given if given else tmp_path

    async def scenario(seen, _):
        for version in "23":
            mount(tmp_path, version, version)
            await seen.until(path)
            seen.paths.clear()
    watching([path], scenario)


def test_a_link_out_of_the_folder_is_followed(tmp_path):
    target = write(tmp_path / "elsewhere" / "real.yaml")
    link = tmp_path / "conf" / "a.yaml"
    link.parent.mkdir()
    link.symlink_to(target)

    async def scenario(seen, _):
        target.write_text("b: 2\n")
        await seen.until(link)
        seen.paths.clear()
        other = write(tmp_path / "other.yaml")
        link.unlink()
        link.symlink_to(other)
        await seen.until(link)
        seen.paths.clear()
        other.write_text("c: 3\n")
        await seen.until(link)
    watching([link.parent], scenario)


def test_a_half_written_file_is_not_told(tmp_path):
    async def scenario(seen, _):
        half = open(tmp_path / "half.yaml", "w")
        half.write("a: ")
        half.flush()
        write(tmp_path / "whole.yaml")
        await seen.until(tmp_path / "whole.yaml")
        assert str(tmp_path / "half.yaml") not in seen.paths
        half.close()
        await seen.until(tmp_path / "half.yaml")
    watching([tmp_path], scenario)


def test_a_burst_is_few_calls(tmp_path):
    async def scenario(seen, _):
        paths = [write(tmp_path / f"{n}.yaml") for n in range(300)]
        await seen.until(*paths)
        assert seen.calls < 100
    watching([tmp_path], scenario)


def test_an_unwatched_neighbour_is_not_told(tmp_path):
    path = write(tmp_path / "a.yaml")

    async def scenario(seen, _):
        write(tmp_path / "neighbour.yaml")
        path.write_text("b: 2\n")
        await seen.until(path)
        assert seen.paths == {str(path)}
    watching([path], scenario)


def test_without_watches_modification_times_are_polled(tmp_path, monkeypatch):
    class Exhausted:
        def __init__(self):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    monkeypatch.setattr(watch, "INotify", Exhausted)
    monkeypatch.setattr(watch, "POLL", 0.01)
    mount(tmp_path, "1", "one")

    async def scenario(seen, watcher):
        assert watcher.polling and "cannot watch files" in seen.warnings[0]
        await watcher.started.wait()
        mount(tmp_path, "2", "two")
        await seen.until(tmp_path / "a.yaml")
        path = write(tmp_path / "b.yaml")
        await seen.until(path)
        seen.paths.clear()
        path.unlink()
        await seen.until(path)
    watching([tmp_path], scenario)


def test_a_watch_that_the_kernel_refuses_later_loses_nothing(tmp_path, monkeypatch):
    """fs.inotify.max_user_watches: what came when there was none left is told, and what comes then."""
    monkeypatch.setattr(watch, "POLL", 0.01)

    async def scenario(seen, watcher):
        def refuse(path, mask):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(watcher._inotify, "add_watch", refuse)
        write(tmp_path / "new" / "a.yaml")
        async with asyncio.timeout(10):
            while not seen.all:
                seen.event.clear()
                await seen.event.wait()
        assert watcher.polling and "No space left on device" in seen.warnings[0]
        path = write(tmp_path / "new" / "b.yaml")
        await seen.until(path)
    watching([tmp_path], scenario)


def test_files_that_are_followed_are_told_until_they_are_not(tmp_path):
    """By their own name, over links (certbot) and over `..data` (a mounted Secret), in folders that are not watched for themselves."""
    conf = write(tmp_path / "conf/a.yaml")
    plain, first, second = (write(tmp_path / name) for name in ("tls/key.pem", "archive/key1.pem", "archive/key2.pem"))
    live, mounted = tmp_path / "live/key.pem", tmp_path / "mount/tls.key"
    live.parent.mkdir()
    live.symlink_to("../archive/key1.pem")
    for number in "12":
        write(tmp_path / f"mount/..{number}/tls.key")
    (mounted.parent / "..data").symlink_to("..1")
    mounted.symlink_to("..data/tls.key")

    def swap(link, to):
        link.with_name("new").symlink_to(to)
        link.with_name("new").rename(link)

    async def scenario(seen, watcher):
        watcher.follow(map(str, (plain, live, mounted)))
        await seen.until(plain, live, mounted)  # they may have changed before
        for path, change in ((plain, lambda: rename_over(plain)), (live, lambda: swap(live, f"../archive/{second.name}")),
                             (live, lambda: write(second, "again")), (mounted, lambda: swap(mounted.parent / "..data", "..2"))):
            seen.paths.clear()
            change()
            await seen.until(path)
        watcher.follow([str(live)])
        seen.paths.clear()
        rename_over(plain)
        rename_over(second)
        await seen.until(live)
        assert str(plain) not in seen.paths
    watching([conf.parent], scenario)


def test_what_is_followed_is_polled_where_nothing_can_be_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "POLL", 0.01)
    monkeypatch.setattr(INotify, "add_watch", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no")))
    conf, key = write(tmp_path / "conf/a.yaml"), write(tmp_path / "tls/key.pem")

    async def scenario(seen, watcher):
        watcher.follow([str(key)])
        while not seen.all:  # whatever was there when it began to look
            await seen.event.wait()
            seen.event.clear()
        write(key, "another")
        await seen.until(key)
    watching([conf.parent], scenario)


@pytest.mark.parametrize("name", ["a.yaml", "sub/a.yaml"])
def test_links_that_lead_nowhere_do_not_end_watching(tmp_path, name):
    write(tmp_path / "a.yaml")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.yaml").symlink_to("loop/x.yaml")
    (tmp_path / "nowhere").symlink_to("/nowhere/at/all")

    async def scenario(seen, watcher):
        assert not watcher.polling
        path = write(tmp_path / name, "b: 2\n")
        await seen.until(path if path.parent == tmp_path else path.parent)
        assert not watcher.polling and not seen.warnings
    watching([tmp_path], scenario)


UNREAD = {
    "a link's target, far away": (lambda path: path.symlink_to("../far/away/sub"),
                                  lambda path: write(path.parents[1] / "far" / "away" / "sub" / "a.yaml")),
    "a link to itself": (lambda path: path.symlink_to("sub"), lambda path: (path.unlink(), write(path / "a.yaml"))),
    "a folder": (lambda path: None, lambda path: write(path / "a.yaml")),
}


@pytest.mark.parametrize("put, mend", UNREAD.values(), ids=UNREAD)
@pytest.mark.parametrize("polling", [False, True], ids=["told", "polled"])
def test_what_could_not_be_read_is_told_when_it_can_be(tmp_path, monkeypatch, put, mend, polling):
    monkeypatch.setattr(watch, "POLL", 0.01)
    if polling:
        monkeypatch.setattr(INotify, "__init__", lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, "none")))
    folder = tmp_path / "conf"
    folder.mkdir()
    path = folder / "sub"
    put(path)

    async def scenario(seen, watcher):
        watcher.look_again([(str(path), obstacle(str(path)))])
        mend(path)
        await seen.until(path)
        watcher.look_again([])
        seen.paths.clear()
        (path / "a.yaml").write_text("b: 22\n")
        await seen.until(path / "a.yaml")
    watching([folder], scenario)


def test_what_still_cannot_be_read_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "POLL", 0.01)
    (tmp_path / "sub").symlink_to("nowhere")

    async def scenario(seen, watcher):
        why = obstacle(str(tmp_path / "sub"))
        watcher.look_again([(str(tmp_path / "sub"), why), (str(tmp_path / "a.yaml"), "it is being written")])
        write(tmp_path / "a.yaml")
        await seen.until(tmp_path / "a.yaml")
        assert seen.paths == {str(tmp_path / "a.yaml")}
    watching([tmp_path], scenario)


def test_a_permission_that_changes_is_told_but_no_touch(tmp_path, monkeypatch):
    path, other = write(tmp_path / "a.yaml"), write(tmp_path / "b.yaml")
    readable = os.access

    async def scenario(seen, watcher):
        os.utime(other)
        monkeypatch.setattr(os, "access", lambda name, mode: name != str(path) and readable(name, mode))
        path.chmod(0)
        await seen.until(path)
        assert seen.paths == {str(path)}
        monkeypatch.undo()
        seen.paths.clear()
        watcher.look_again([(str(path), "Permission denied")])
        path.chmod(0o600)
        await seen.until(path)
    watching([tmp_path], scenario)
