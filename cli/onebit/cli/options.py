"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ModelArgument = Annotated[Path, typer.Argument(help="The .tflite file.", show_default=False)]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder with data sets.", show_default=False)]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download a missing data set (sha256 checked).")]
MeanOption = Annotated[str | None, typer.Option(help="Mean per channel, comma separated.", show_default=False)]
StdOption = Annotated[str | None, typer.Option(help="Std per channel, comma separated.", show_default=False)]
RoundingOption = Annotated[
    Literal["litert", "tflm"], typer.Option(help="Whose arithmetic the built-in operators follow: LiteRT's or TFLM's.")
]
RangeOption = Annotated[
    str | None, typer.Option(help="LO,HI: pixels 0..255 become real numbers LO..HI.", show_default=False)
]
OptimizeOption = Annotated[
    Literal["speed", "size", "ram"],
    typer.Option(help="What kernels and compiler flags are chosen for; ram is compiled as speed."),
]
ArenaOption = Annotated[
    Literal["static", "caller"],
    typer.Option(help="Where intermediate values lie: in the module, or where the caller says."),
]
