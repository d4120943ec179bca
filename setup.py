"""Build the compiled stages: GWFAST_BUILD=release|debug|asan|trace, GWFAST_ONLY=_match,_pick for some of them.

release keeps -g and frame pointers so that perf can read it; debug turns on bounds checks and assertions; asan
adds the address and undefined-behaviour sanitizers (run with their runtimes preloaded); trace adds line tracing
for coverage.
"""
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

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


def extensions():
    for source in sorted(Path("gwfast").glob("_*.pyx")):
        if not ONLY or source.stem in ONLY:
            yield Extension(f"gwfast.{source.stem}", [str(source)],
                            extra_compile_args=COMMON + FLAGS, extra_link_args=LINK)


setup(ext_modules=cythonize(list(extensions()), compiler_directives=DIRECTIVES,
                            build_dir=f"build/cython-{MODE}", nthreads=os.cpu_count() or 1),
      options={"build_ext": {"parallel": os.cpu_count() or 1}})
