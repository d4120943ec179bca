"""Build the compiled stages: GWFAST_BUILD=release|debug|asan|trace, GWFAST_ONLY=_match,http1.parser for some of them.

release keeps -g and frame pointers so that perf can read it, where it is built in place; what goes into a wheel has no symbols.
debug turns on bounds checks and assertions; asan adds the address and undefined-behaviour sanitizers (run with their runtimes
preloaded); trace adds line tracing for coverage.

Cython is asked only when something is compiled: to make an sdist, or to say what the dependencies are, it is not needed.
"""
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if not sys.platform.startswith("linux"):
    sys.exit("gwfast runs on Linux alone: it is made of epoll, memfd, splice and SO_REUSEPORT")

MODE = os.environ.get("GWFAST_BUILD", "release")
ONLY = set(filter(None, os.environ.get("GWFAST_ONLY", "").split(",")))
COMMON = ["-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing", "-Wall",
          "-Wno-unused-function", "-Wno-unreachable-code"]
FLAGS = {
    "release": ["-O3", "-DNDEBUG", "-UPy_DEBUG"],
    "debug": ["-O1", "-UNDEBUG", "-DCYTHON_REFNANNY=0"],
    "asan": ["-O1", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "trace": ["-O0", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"],
}[MODE]
LINK = ["-fsanitize=address,undefined"] if MODE == "asan" else []
CHECKED = MODE != "release"
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": CHECKED,
    "wraparound": False,
    "initializedcheck": CHECKED,
    "cdivision": True,
    "auto_pickle": False,
    "embedsignature": True,
    "linetrace": MODE == "trace",
}


class Build(build_ext):
    """Writes the C of the stages, then compiles it; in a tree that is worked in, those of the tests as well."""

    def finalize_options(self) -> None:
        if self.inplace or self.editable_mode:
            self.distribution.ext_modules += extensions("tests", recursive=False)
        super().finalize_options()

    def run(self) -> None:
        from Cython.Build import cythonize
        written = cythonize(self.extensions, compiler_directives=DIRECTIVES, build_dir=f"build/cython-{MODE}",
                            nthreads=os.cpu_count() or 1)
        sources = {extension.name: extension.sources for extension in written}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
            if MODE == "release" and not self.inplace and not self.editable_mode:
                extension.extra_compile_args.append("-g0")
                extension.extra_link_args.append("-Wl,--strip-all")
        super().run()


def extensions(folder: str, recursive: bool = True) -> Iterator[Extension]:
    for source in sorted(Path(folder).glob("**/*.pyx" if recursive else "*.pyx")):
        name = ".".join(source.with_suffix("").parts)
        if not ONLY or name.removeprefix("gwfast.") in ONLY:
            yield Extension(name, [str(source)],
                            extra_compile_args=COMMON + FLAGS, extra_link_args=[*LINK])


setup(ext_modules=list(extensions("gwfast")), cmdclass={"build_ext": Build},
      options={"build_ext": {"parallel": os.cpu_count() or 1}})
