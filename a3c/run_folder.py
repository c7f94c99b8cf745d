"""A run's own folder, and the link runs/latest to the newest."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from a3c import checkpoint
from a3c.config import Config, InputError, to_dict


def create_run_folder(config: Config) -> Path:
    """runs/<env>-<time>/ with config.json, and the link runs/latest to it. Raises InputError."""
    runs = Path(config.runs_dir)
    name = f"{config.env.replace('/', '-')}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = runs / name, 1
    try:
        while folder.exists():
            number += 1
            folder = runs / f"{name}-{number}"
        checkpoint.folder(folder).mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(to_dict(config), indent=1) + "\n")
        link = runs / f".latest-{os.getpid()}"
        link.symlink_to(folder.name)
        os.replace(link, runs / "latest")
    except OSError as error:
        raise InputError(f"cannot create the run folder {folder}: {error.strerror}") from None
    return folder
