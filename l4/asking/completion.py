"""The subcommand `completion`: completion of commands, options and names in a shell."""

import os
from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


def completion_of(program: str) -> click.Command:
    @click.command("completion")
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.option("--install", is_flag=True, help="Write the script where the shell looks for it, and say where.")
    @click.pass_context
    def completion(context: click.Context, shell: str, install: bool) -> None:
        """Print the script that completes commands, options and names of running programs in a shell, or install it."""
        script = script_of(shell, program, context.find_root().command)
        if not install:
            click.echo(script)
            return
        path = place_of(shell, program, os.environ)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
        except OSError as error:
            raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
        advice = f"; put `fpath+=({path.parent})` before compinit in ~/.zshrc" if shell == "zsh" else ""
        click.echo(f"{path} is written; it works in new shells{advice}")

    return completion


def script_of(shell: str, program: str, command: click.Command) -> str:
    """Return the script for a shell. The wheel has all of them (`make docs` writes them)."""
    found = get_completion_class(shell)
    assert found is not None
    return found(command, {}, program, f"_{program.upper()}_COMPLETE").source()


def place_of(shell: str, program: str, environment: Mapping[str, str]) -> Path:
    """Return the user's file for this shell."""
    home = Path(environment.get("HOME", "~")).expanduser()
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    match shell:
        case "bash":
            return data / "bash-completion" / "completions" / program
        case "zsh":
            return data / "zsh" / "site-functions" / f"_{program}"
    return config / "fish" / "completions" / f"{program}.fish"
