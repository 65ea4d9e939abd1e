"""Policies in repositories: what is uploaded, what its card says, and that it comes back."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from promptgym.agents.checkpoint import remove_weights
from promptgym.cli import main
from promptgym.errors import ConfigError
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.evaluation.hub import command, from_hub, push_to_hub
from promptgym.runs.folder import RunFolder

PREWRITE = {"steps": 1, "group": 4, "drafts": 2, "max_tokens": 6, "samples": 2}
RLPROMPT = {"steps": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small finished run of each method."""
    root = tmp_path_factory.mktemp("runs")
    for method, options in (("prewrite", PREWRITE), ("rlprompt", RLPROMPT), ("manual", {})):
        experiment = Experiment(
            method=method, task="author", options=options, budget={"queries": 3000}, seed=3
        )
        run_experiment(experiment, root / method, report=False)
    return {method: root / method for method in ("prewrite", "rlprompt", "manual")}


@pytest.mark.parametrize("method", ["prewrite", "rlprompt"])
def test_a_policy_comes_back_from_a_repository(
    method: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    repo = f"file:{tmp_path / 'repo'}"
    assert push_to_hub(runs[method], repo) == str(tmp_path / "repo")
    result = RunFolder.open(runs[method]).result()
    agent = from_hub(repo)
    assert agent.name == method
    assert [p.to_json() for p in agent.predict()] == [result["policy"]["greedy"]]
    card = (tmp_path / "repo" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: promptgym\n")
    test = result["best"]["test"]
    for said in (
        "| task | review-author |",
        f"| target model | {result['model']} |",
        "| budget | 3,000 queries |",
        f"{test['value']:.3f} [{test['low']:.3f}, {test['high']:.3f}]",
        f'from_hub("{repo}")',
    ):
        assert said in card, said
    assert not (runs[method] / "policy" / "README.md").exists(), "the run is left as it was"


def test_weights_of_an_older_policy_do_not_stay(runs: dict[str, Path], tmp_path: Path) -> None:
    there = tmp_path / "repo"
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", there):  # one is no policy's folder before, one is
        if folder == there:
            push_to_hub(runs["rlprompt"], f"file:{there}")
        for name in ("adapter_config.json", "adapter_model.safetensors", "notes.json"):
            (folder / name).write_text("{}")
    push_to_hub(runs["prewrite"], f"file:{there}")
    assert [p.name for p in there.glob("*.safetensors")] == ["model.safetensors"]
    assert not (there / "adapter_config.json").exists()
    assert (there / "notes.json").exists()
    agent = from_hub(f"file:{there}")
    result = RunFolder.open(runs["prewrite"]).result()
    assert [p.to_json() for p in agent.predict()] == [result["policy"]["greedy"]]
    (there / "adapter_model.safetensors").write_text("{}")
    agent.save(there)
    assert [p.name for p in there.glob("*.safetensors")] == ["model.safetensors"]
    remove_weights(tmp_path / "mine", [])
    assert len(list((tmp_path / "mine").iterdir())) == 3, "it holds no policy"


def test_the_command_on_the_card_starts_the_same_run(runs: dict[str, Path], tmp_path: Path) -> None:
    config = RunFolder.open(runs["rlprompt"]).config
    line = command({**config, "reward": {"name": "gap", "right": 1.0}})
    arguments = shlex.split(line)[1:]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--out", str(tmp_path / "again"), "--quiet", "--no-report"])
    assert not done.value.code
    again = RunFolder.open(tmp_path / "again").config
    assert again == {**config, "reward": {"name": "gap", "right": 1.0}}


def test_uploads_go_through_the_hubs_client(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    class Api:
        """Stands for the Hub."""

        def create_repo(self, repo: str, **options: Any) -> str:
            calls.append((repo, options))
            return f"https://huggingface.co/{repo}"

        def upload_folder(
            self,
            *,
            repo_id: str,
            folder_path: Path,
            commit_message: str,
            delete_patterns: list[str],
        ) -> None:
            assert "*.safetensors" in delete_patterns
            calls.append((repo_id, sorted(p.name for p in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_to_hub(runs["rlprompt"], "me/policy", private=True).endswith("me/policy")
    assert calls[0] == ("me/policy", {"private": True, "exist_ok": True})
    assert calls[1] == ("me/policy", ["README.md", "policy.json", "policy.safetensors"])
    push_to_hub(runs["rlprompt"], f"file:{tmp_path / 'there'}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: tmp_path / "there")
    assert from_hub("me/policy").name == "rlprompt"


def test_what_the_hub_answers_names_the_repository(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*given: Any, **options: Any) -> str:
        raise ConnectionError("no route to the Hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", offline)
    for use in (from_hub, lambda name: push_to_hub(runs["rlprompt"], name)):
        with pytest.raises(ConfigError, match=r"me/policy: no route to the Hub; .* log in"):
            use("me/policy")


@pytest.mark.parametrize("method", ["prewrite", "rlprompt"])
def test_a_policy_of_another_version_is_named(
    method: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    push_to_hub(runs[method], f"file:{tmp_path}")
    about = json.loads((tmp_path / "policy.json").read_text())
    for changed in (
        {**about, "options": {**about["options"], "no_more": 1}},
        {"agent": method, "options": about["options"]},
        {"agent": method},
    ):
        (tmp_path / "policy.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=r"policy.json was written by another version"):
            from_hub(f"file:{tmp_path}")


def test_what_is_no_policy_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manual trains none"):
        push_to_hub(runs["manual"], f"file:{tmp_path}")
    with pytest.raises(ConfigError, match="holds no run"):
        push_to_hub(tmp_path, "me/policy")
    with pytest.raises(ConfigError, match=r"no policy\.json"):
        from_hub(f"file:{tmp_path}")
    for repo in ("me/a policy", "a/b/c", ""):
        for use in (from_hub, lambda name: push_to_hub(runs["rlprompt"], name)):
            with pytest.raises(ConfigError, match="no name of a repository: expected 'user/name'"):
                use(repo)
    (tmp_path / "policy.json").write_text(json.dumps({"agent": "other"}))
    with pytest.raises(ConfigError, match=r"'other'; known here: .*prewrite"):
        from_hub(f"file:{tmp_path}")
