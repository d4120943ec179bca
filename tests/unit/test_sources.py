"""Files, a cluster and a controller are all that a supervisor asks of a source."""
import pytest

from gwfast.config.source import Source, brief
from gwfast.controller.source import ControllerSource
from gwfast.kubernetes.source import KubernetesSource
from gwfast.serve.files import Files

ASKED = {name for name, each in vars(Source).items() if callable(each) and not name.startswith("_")}


def test_what_is_asked() -> None:
    assert ASKED == {"load", "watch", "look_again", "metrics", "close"}


@pytest.mark.parametrize("source", [Files, KubernetesSource, ControllerSource])
def test_a_source_answers(source: type) -> None:
    assert {name for name in ASKED if not callable(getattr(source, name, None))} == set()
    assert hasattr(source, "waits") and hasattr(source, "brief")


@pytest.mark.parametrize("kinds, is_brief", [
    ([], True), (["HTTPRoute"] * 32, True), (["HTTPRoute"] * 33, False), (["UDPRoute", "EndpointSlice"], True),
    (["HTTPRoute", "Namespace"], False), (["Service"], False), (["Gateway"], False)], ids=str)
def test_a_moments_work(kinds: list[str], is_brief: bool) -> None:
    assert brief(kinds) == is_brief
