import ctypes
import shutil
from pathlib import Path

import pytest

from attar.convolution import native
from attar.convolution.direct import Direct

needs_compiler = pytest.mark.skipif(
    native.find_compiler() is None, reason="no C++ compiler (on Debian: apt install g++)"
)


@pytest.fixture
def anew():
    """Forget the library that was loaded, before and after."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@needs_compiler
@pytest.mark.parametrize("kind, lanes", [("AVX512", 16), ("AVX2", 8), ("DEFAULT", 4)])
def test_every_kind_of_processor_gets_its_library(kind, lanes, anew, monkeypatch, draw, equals_conv2d):
    best = native.capability()
    order = ["DEFAULT", "AVX2", "AVX512"]
    if best not in order or order.index(kind) > order.index(best):
        pytest.skip(f"this processor has {best} only")
    monkeypatch.setattr(native, "capability", lambda: kind)
    built = native.library()
    assert built.why == ""
    assert built.functions.lanes() == lanes
    for _ in range(30):
        case = draw.case()
        equals_conv2d(case, Direct.prepare(case.weight, case.bias, case.geometry, backend="native")(case.activation))


@needs_compiler
def test_a_library_is_built_once(tmp_path, monkeypatch):
    first = native.build(native.find_compiler(), "AVX2", tmp_path)
    monkeypatch.setattr(native, "_run", lambda command: pytest.fail("compiled again"))
    assert native.build(native.find_compiler(), "AVX2", tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def threading_libraries():
    return {
        line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines() if "gomp" in line
    }


@needs_compiler
def test_threads_are_those_of_pytorch():
    """The library asks for the OpenMP that is loaded already, not for one of its own."""
    loaded = native._openmp()
    if loaded is None:
        pytest.skip("PyTorch runs on another OpenMP here")
    before = threading_libraries()
    assert native.library().functions is not None
    after = threading_libraries()
    assert after == before


def test_without_a_compiler_there_is_none_and_why(anew, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    built = native.library()
    assert built.functions is None
    assert built.why == "no C++ compiler was found (on Debian: apt install g++)"


def test_a_compiler_that_fails_is_told(anew, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    built = native.library()
    assert built.functions is None
    assert built.why.startswith("the C++ compiler did not build the kernel (")


def test_the_compiler_named_in_the_environment_comes_first(monkeypatch):
    monkeypatch.setenv("CXX", "env g++ -pipe")
    assert native.find_compiler() == ["env", "g++", "-pipe"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native.find_compiler() != ["no-such-compiler"]


def test_the_struct_is_that_of_the_source():
    """Every count of `struct Shape`, in its order."""
    source = native.SOURCE.read_text(encoding="utf-8")
    body = source[source.index("struct Shape {") : source.index("};", source.index("struct Shape {"))]
    lines = [line.split("//")[0] for line in body.splitlines() if line.strip().startswith("int32_t")]
    names = [name.strip(" ;") for line in lines for name in line.replace("int32_t", "").split(",")]
    assert names == [name for name, _ in native.Shape._fields_]
    assert ctypes.sizeof(native.Shape) == 4 * len(names)
