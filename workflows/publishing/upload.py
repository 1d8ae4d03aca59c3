"""Uploads a data set's folder to Hugging Face's hub."""

from __future__ import annotations

from pathlib import Path

from common.errors import UserError, reason
from workflows.publishing.data_set import MADE_FROM


def upload(folder: Path, repo: str, private: bool) -> str:
    """Uploads the folder if there is a token; after an interruption the same call goes on.

    Args:
        folder: of the data set.
        repo: `OWNER/NAME`; created if it does not exist.
        private: a repository that is created is visible to its owner only.

    Returns:
        a sentence about what was done.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        return f"not uploaded, as there is no token: run `hf auth login`, then the same command again, to upload to {repo}"
    api = HfApi()
    # From version 2 on `upload_folder` does what `upload_large_folder` did before.
    send = getattr(api, "upload_large_folder", None) or api.upload_folder
    try:
        url = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        send(
            repo_id=repo, folder_path=str(folder), repo_type="dataset", ignore_patterns=[MADE_FROM]
        )
    except Exception as error:  # the hub client raises dozens of types
        raise UserError(
            f"cannot upload {folder} to {repo}: {reason(error)} (the folder is complete: run the same "
            "command again)"
        ) from error
    return f"uploaded: {url}"
