"""Whatever files hold, loading them raises nothing; and loading again after any edits is loading from the start."""
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.config.load import Loader, load

WORDS = (
    "apiVersion: ", "gateway.networking.k8s.io/v1", "networking.x-k8s.io/v1alpha1", "kind: ", "HTTPRoute", "Gateway",
    "List", "metadata: ", "spec: ", "rules: ", "matches: ", "backendRefs: ", "forwardTo: ", "items: ", "listeners: ",
    "name: ", "- ", "\n", "\n  ", "\n    ", "---\n", "...\n", "{", "}", "[", "]", ", ", ": ", '"', "'", "|\n", "&a ",
    "*a", "!!int ", "<<: ", "# ", "%YAML 1.1\n", "a", "80", "on", "~", "\t", "\0", "\ufeff", "é", "\udc80", "}\n{",
    '{"kind":"HTTPRoute",',
)
HEAD = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec:\n  "
text = st.lists(st.sampled_from(WORDS), max_size=30).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.one_of(text, text.map(HEAD.__add__), text.map(lambda end: f'{{"kind":"List","items":[{end}]}}')))
def test_any_text_loads(content):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.yaml").write_bytes(content.encode(errors="surrogateescape"))
        loaded = load([folder])
        assert all(problem.message and problem.source.line >= 1 for problem in loaded.problems)
        assert all(resource.source.line >= 1 for resource in loaded.resources.values())


DOCUMENT = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\n" \
    "spec: {hostnames: [%s.example]}\n"
document = st.builds(lambda *names: DOCUMENT % names, st.sampled_from("abcde"), st.sampled_from("pqr"))
file = st.one_of(st.none(), st.lists(document, max_size=4).map("---\n".join))
edit = st.tuples(st.sampled_from(["x", "sub/y", "z"]), file)


@settings(max_examples=80, deadline=None)
@given(st.lists(edit, min_size=1, max_size=8), st.booleans())
@pytest.mark.filterwarnings("error")
def test_loading_again_is_loading_from_the_start(edits, told):
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/sub")
        loader, before = Loader([folder]), {}
        for name, content in edits:
            path = Path(folder, f"{name}.yaml")
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(content)
            loaded, fresh = loader.load({str(path)} if told else None), load([folder])
            assert {key: (each.spec, each.source) for key, each in loaded.resources.items()} == {
                key: (each.spec, each.source) for key, each in fresh.resources.items()}
            assert loaded.problems == fresh.problems
            now = {key: each.spec for key, each in loaded.resources.items()}
            assert loaded.added == now.keys() - before.keys() and loaded.removed == before.keys() - now.keys()
            assert loaded.changed == {key for key in now.keys() & before.keys() if now[key] != before[key]}
            before = now
