from pathlib import Path

import pytest

from core import files


def test_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError, match="disk"), files.atomic(target) as part:
        part.write_text("half")
        raise RuntimeError("disk")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_canonical_json_ignores_order_and_refuses_nan() -> None:
    assert files.canonical_json({"b": 1, "a": [1.5, None]}) == files.canonical_json({"a": [1.5, None], "b": 1})
    with pytest.raises(ValueError, match="Out of range"):
        files.canonical_json({"a": float("nan")})


def test_sha256_of_known_text(tmp_path: Path) -> None:
    files.write_text(tmp_path / "abc", "abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_cache_dir_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUTBENCH_CACHE", str(tmp_path / "here"))
    assert files.cache_dir("a", "b") == tmp_path / "here" / "a" / "b"
    assert (tmp_path / "here" / "a" / "b").is_dir()
