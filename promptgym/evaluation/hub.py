"""Trained policies on the Hugging Face Hub: `push_to_hub` with a model card, `from_hub`.

A repository is "user/name" on the Hub, or "file:FOLDER" for a local folder with the same content.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptgym.agents import AGENTS, optimizer_class
from promptgym.agents.checkpoint import WEIGHTS, read_about, remove_weights
from promptgym.errors import ConfigError
from promptgym.prompts import Prompt
from promptgym.runs.folder import RunFolder, write_text
from promptgym.types import JSON

POLICY = "policy"
CARD = "README.md"
LOCAL = "file:"


def push_to_hub(run: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload the policy of a finished run with a model card; an older one's weights are removed.

    Args:
        run: the run folder.
        repo: where to; made if it does not exist.
        private: make it for yourself only.

    Returns:
        Where it is: an address, or the local folder.

    Raises:
        ConfigError: if the run is not finished, its method has no policy, or the Hub refuses.
    """
    folder = RunFolder.open(run)
    card = model_card(folder, repo)
    policy = folder.path / POLICY
    if not policy.is_dir():
        raise ConfigError(f"{folder.path} has no {POLICY}/: {folder.config['method']} trains none")
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / POLICY
        shutil.copytree(policy, whole)
        write_text(whole / CARD, card)
        if repo.startswith(LOCAL):
            there = Path(repo.removeprefix(LOCAL))
            shutil.copytree(whole, there, dirs_exist_ok=True)
            remove_weights(there, [path.name for path in whole.iterdir()])
            return str(there)
        from huggingface_hub import HfApi

        api = HfApi()
        message = f"{folder.config['method']} on {folder.config['task']}"
        with of_the_hub(repo):
            url = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=whole,
                commit_message=message,
                delete_patterns=list(WEIGHTS),  # those of an older policy; not what is uploaded
            )
        return str(url)


def from_hub(repo: str, *, revision: str | None = None) -> Any:
    """Return the agent whose policy is in a repository, ready to `predict`.

    Nothing that is downloaded is unpickled: policies are safetensors and JSON.

    Args:
        repo: what `push_to_hub` was given.
        revision: branch, tag or commit, on the Hub.

    Raises:
        ConfigError: if there is no such repository, or no policy of an agent known here.
    """
    if repo.startswith(LOCAL):
        folder = Path(repo.removeprefix(LOCAL))
    else:
        from huggingface_hub import snapshot_download

        kinds = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", CARD]
        with of_the_hub(repo):
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=kinds))
    name = read_about(folder)["agent"]
    if name not in AGENTS:
        raise ConfigError(f"{repo} is of agent {name!r}; known here: {', '.join(sorted(AGENTS))}")
    return optimizer_class(name).load(folder)


@contextmanager
def of_the_hub(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises into an error that names the repository.

    Raises:
        ConfigError: saying what was expected.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise ConfigError(
            f"{repo!r} is no name of a repository: expected 'user/name' on the Hub, or "
            f"'file:FOLDER' for a local folder ({error})"
        ) from None
    except OSError as error:  # of the connection, and all that the Hub answers
        said = " ".join(str(error).split())
        raise ConfigError(
            f"{repo}: {said}; look at the name and the connection, and log in (`hf auth login`) "
            "where it is private or written to"
        ) from error


def model_card(run: RunFolder, repo: str) -> str:
    """Return the card of a finished run's policy: what it was trained on, what came of it, how.

    Raises:
        ConfigError: if the run is not finished.
    """
    result, config = run.result(), run.config
    caps = ", ".join(f"{n:,} {kind}" for kind, n in config["budget"].items()) or "none"
    facts = {
        "task": result["task"],
        "target model": result["model"],
        "reward": json.dumps(config["reward"]),
        "budget": caps,
        "spent": f"{result['spent']['queries']:,} queries (prompt x example pairs)",
        "seed": result["seed"],
        "promptgym": result["promptgym"],
    }
    rows = [
        f"| {row['name']} | {_score(row['dev'])} | {_score(row['test'])} | {_code(row['prompt'])} |"
        for row in result["compared"]
    ]
    return "\n".join(
        [
            "---",
            "library_name: promptgym",
            f"tags: [promptgym, prompt-optimization, {result['method']}]",
            "---",
            "",
            f"# {result['method']} on {result['task']}",
            "",
            "A policy that writes prompts for a frozen language model, trained with promptgym.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts.items()),
            "",
            f"{result['metric']}, with 95 % intervals over examples (one seed):",
            "",
            "| prompt | dev | test | text |",
            "|---|---|---|---|",
            *rows,
            "",
            "```bash",
            command(config),
            "```",
            "",
            "```python",
            "from promptgym.evaluation.hub import from_hub",
            "",
            f'agent = from_hub("{repo}")',
            "agent.predict(4, greedy=False)",
            "```",
            "",
        ]
    )


def command(config: JSON) -> str:
    """Return the command line that starts a run with this config."""
    parts = ["promptgym", "train", config["method"]]
    flags = {
        "--task": config["task"],
        "--model": config["model"],
        "--preset": config["preset"],
        "--reward": config["reward"],
        "--seed": config["seed"],
        "--prompt": config["initial_prompt"],
        "--template": config["template"],
    }
    for kind, flag in (("queries", ""), ("tokens", "-tokens"), ("seconds", "-seconds")):
        flags[f"--budget{flag}"] = config["budget"].get(kind)
    flags["--budget-usd"] = config["budget"].get("usd")
    for key in ("task", "model"):
        flags[f"--{key}-options"] = config[f"{key}_options"] or None
    for flag, value in flags.items():
        if value is not None:
            parts += [flag, value if isinstance(value, str) else json.dumps(value)]
    for name, value in config["options"].items():
        shown = value if isinstance(value, str) else json.dumps(value)
        parts += ["--set", f"{name}={shown}"]
    return shlex.join(parts)


def _score(score: JSON | None) -> str:
    """Return a score with its interval as a cell."""
    if score is None or score["value"] is None:
        return "-"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _code(prompt: JSON) -> str:
    """Return a prompt's instruction as a cell of a table."""
    text = " ".join(Prompt.of(prompt).instruction.split()).replace("|", "\\|")
    return f"`{text}`" if text else "(empty)"
