"""Serve one model over HTTP.

        python -m workloads.serving published/digits                                  on this computer, port 8080
    python -m workloads.serving published/digits --set host=0.0.0.0 --set keys=keys.json
        python -m workloads.serving published/digits --print > server.json           all settings, to edit

MODEL is a directory that `python -m workloads.quantize` has published, or `python -m workloads.serving.gguf` or
`python -m workloads.serving.vllm` for a language model. MODEL may also be the directory of a training: the server
then uses its newest checkpoint. The server logs each event to stdout as one line of JSON. SIGTERM stops the server
without the loss of a request.
"""

import argparse
import sys
from pathlib import Path

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.serving.settings import ServingSettings
from workloads.serving.start import start

STATUS = "Exit status: 0 stopped on request, 1 the model is damaged, 2 wrong input, 4 the runtime process ended."


def arguments() -> argparse.ArgumentParser:
    parser = new_parser("workloads.serving", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory of the model")
    config_file.add_arguments(parser, "port=8081")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    settings = config_file.settings(ServingSettings, args)
    if args.print:
        print(settings.model_dump_json(indent=2))
        return 0
    start(args.model, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
