"""Do `nas spaces` and `nas cost` say what holds, to people and to machines?"""

import json
from pathlib import Path

import pytest

from tests.cli.terminal import SPACE, nas, refused, written

ARCHITECTURE = {
    "kind": "encoder",
    "patch_size": 2,
    "width": 16,
    "layers": [{"attention": "softmax", "heads": 2, "head_width": 4, "ffn_width": 32}],
}


def test_the_published_space_has_its_exact_size() -> None:
    shown = nas("spaces", "show", "mixformer_cifar10", "--json").json
    assert shown["size"] == 3 * (45**12 + 45**13 + 45**14)
    assert str(shown["size"]) in nas("spaces", "show", "mixformer_cifar10").out


def test_list_names_what_can_be_shown() -> None:
    listed = nas("spaces", "list", "--json").json
    names = {each["name"] for each in listed}
    assert {"digits_tiny", "cifar10_small", "cifar10", "mixformer_cifar10"} <= names
    assert {line.split()[0] for line in nas("spaces", "list").out.splitlines()} == names
    for each in listed:
        shown = nas("spaces", "show", each["name"], "--json").json
        assert {key: shown[key] for key in each} == each


def test_what_show_says_of_a_space_is_a_space_again(tmp_path: Path) -> None:
    shown = nas("spaces", "show", "digits_tiny", "--json").json
    # 2 patch sizes, 3 widths; 3 types, 2 numbers of heads, 2 head widths and 3 FFN widths a layer.
    assert shown["size"] == 6 * (36 + 36**2 + 36**3)
    again = written(tmp_path / "again.yaml", shown["choices"])
    assert nas("spaces", "show", again, "--json").json == shown
    for word in ("patch_size", "layers.heads", '"cosformer"', shown["digest"]):
        assert word in nas("spaces", "show", "digits_tiny").out


def test_both_stacks_are_shown_under_each_other() -> None:
    shown = nas("spaces", "show", "hat_wmt14_en_de", "--json").json
    assert shown["encoder.depth"] == [6]
    assert shown["decoder.depth"] == [1, 2, 3, 4, 5, 6]
    first, *lines = nas("spaces", "show", "hat_wmt14_en_de").out.splitlines()
    assert str(shown["size"]) in first
    told = dict(line.split(maxsplit=1) for line in lines)
    assert told["decoder.layers.cross_attention_width"] == "[512]"
    assert told["encoder.width"] == "[512, 640]"
    assert len({line.index("[") for line in lines}) == 1


def test_validate(tmp_path: Path) -> None:
    path = written(tmp_path / "space.yaml", SPACE)
    said = nas("spaces", "validate", path)
    assert (said.code, said.out, said.err) == (0, "valid: tiny, 12 architectures\n", "")
    assert nas("spaces", "validate", path, "--json").json["size"] == 2 * (2 + 2**2)


def test_validate_a_file_that_is_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(nas("spaces", "validate", "README.md"), "README.md: cannot be read", "No such file")
    written(tmp_path / "README.md", "# A title\n\n- [a link](to: it)\n")
    said = nas("spaces", "validate", "README.md")
    refused(said, "README.md: ")
    assert "unknown name" not in said.err


def test_spaces_of_one_s_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "tiny.yaml", SPACE)
    monkeypatch.setenv("NAS_SEARCH_SPACES", str(tmp_path))
    assert nas("spaces", "show", "tiny", "--json").json["size"] == 12
    assert "tiny" in {each["name"] for each in nas("spaces", "list", "--json").json}


def test_a_broken_file_hides_no_other_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = nas("spaces", "list", "--json").json
    written(tmp_path / "tiny.yaml", SPACE)
    written(tmp_path / "worse.yaml", {**SPACE, "width": []})
    written(tmp_path / "bad.yaml", "a: [1\n")
    (tmp_path / "folder.yaml").mkdir()
    monkeypatch.setenv("NAS_SEARCH_SPACES", str(tmp_path))
    said = nas("spaces", "list", "--json")
    assert said.code == 2
    assert {each["name"] for each in said.json} == {"tiny", *(each["name"] for each in shipped)}
    lines = said.err.splitlines()
    assert lines[0].startswith(f"error: {tmp_path / 'bad.yaml'}: not usable YAML")
    for word in ("'folder'", f"{tmp_path / 'worse.yaml'}: width"):
        assert word in said.err
    shown = nas("spaces", "list")
    assert (shown.code, shown.err) == (2, said.err)
    assert len(shown.out.splitlines()) == len(shipped) + 1


def test_schema_is_json() -> None:
    forms = [form["properties"] for form in nas("spaces", "schema").json["anyOf"]]
    kinds = [form["kind"]["const"] for form in forms]
    assert kinds == ["encoder", "encoder_decoder", "nas_bench_bert"]
    assert "patch_size" in forms[0]
    assert {"encoder", "decoder"} <= set(forms[1])


def test_cost_by_hand(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(ARCHITECTURE))
    said = nas("cost", path, "--task", "digits", "--json")
    assert (said.code, said.err) == (0, "")
    tokens, inner = 16, 2 * 4
    flops = {
        "embedding": 2 * tokens * 4 * 16,
        "projections": 2 * tokens * 4 * 16 * inner,
        "attention": 2 * 2 * tokens * tokens * inner,
        "ffn": 2 * 2 * tokens * 16 * 32,
        "head": 2 * 16 * 10,
    }
    assert said.json["flops_by_group"] == flops
    assert said.json["flops"] == sum(flops.values())
    attention = {
        "params": 4 * 16 * inner + 3 * inner + 16,
        "flops": flops["projections"] + flops["attention"],
    }
    assert said.json["by_site"] == {"encoder_self": attention}
    assert set(said.json) == {
        "id", "task", "params", "flops", "activation_bytes", "flops_by_group", "by_site",
    }  # fmt: skip
    shown = dict(
        line.split(maxsplit=1) for line in nas("cost", path, "--task", "digits").out.splitlines()
    )
    assert shown["flops"] == str(said.json["flops"])
    larger = nas("cost", path, "--task", "digits", "--option", "side=16", "--json").json
    assert larger["flops_by_group"]["ffn"] == 4 * flops["ffn"]
    assert larger["flops_by_group"]["attention"] == 16 * flops["attention"]


def test_measured_latency_has_its_provenance(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(ARCHITECTURE))
    ask = ("--device", "cpu", "--batch", 3, "--repetitions", 4, "--json")
    found = nas("cost", path, "--task", "digits", "--latency", *ask).json
    assert found["latency_ms"] > 0
    assert found["latency_spread_ms"] >= 0
    assert set(found["machines"]) == {"latency_ms"}
    assert "torch" in found["machines"]["latency_ms"]
    assert {name: found["workload"][name] for name in ("device", "batch", "repetitions")} == {
        "device": "cpu",
        "batch": 3,
        "repetitions": 4,
    }
    refused(
        nas("cost", path, "--task", "digits", "--measure", "latency"), "--measure", "latency_ms"
    )


def test_what_sentences_alone_have_is_refused_for_images(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(ARCHITECTURE))
    refused(nas("cost", path, "--task", "digits", "--beam", "2"), "nas cost.beam", "sentences")
