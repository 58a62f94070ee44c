"""The pipeline of the sweep: what its two stages do, and the marks at their moments.

A stage says each line twice: on its output, and in a file beside the store, the truth about it.
"""

from __future__ import annotations

from pathlib import Path

TICKS, TICK = 6, 0.4  # of stage a: lines, and seconds between two of them
# A request that is answered when what was to happen here has happened; without a network, nothing.
MARK = r"""mark() {{
  {{
    exec 9<>/dev/tcp/127.0.0.1/{port} && printf 'GET /_mark/%s HTTP/1.0\r\n\r\n' "$1" >&9 &&
      read -r -t 60 <&9
    exec 9>&-
  }} 2>/dev/null || :
}}
"""
# A full disk refuses a write; here a limit does, whose signal must not end who writes.
FULL = "trap '' XFSZ\n"
NOW = "dt.datetime.now(dt.timezone.utc)"
SAY = """
tag=$STAGE-$$-$RANDOM
say() {{ printf '%s\\n' "$tag $1"; printf '%s\\n' "$EPOCHREALTIME $tag $1" >>{folder}/truth; }}
leave() {{ say "exit $1"; exit "$1"; }}
about() {{
  local name
  for name in RUN_DATE STAGE EXECUTION_ID ARTIFACTS_URI; do
    printf '%s "%s": "%s"' "${{comma-{{}}" "$name" "${{!name}}"
    local comma=,
  done
  printf '}}\\n'
}}
"""
A = """
mark stage/a-begin
for ((i = 1; i <= {ticks}; i++)); do
  say "line $i"
  mark "stage/a-tick-$i"
  sleep {tick}
done
while [[ -e {folder}/hold && ( ! -e {folder}/again || -e $SPOT_HOME/held ) ]]; do sleep 0.05; done
mkdir -p "$ARTIFACTS_DIR" || leave 9
about >"$ARTIFACTS_DIR/a.txt" || leave 9
mark stage/a-end
if [[ -e {folder}/exit ]]; then
  code=$(<{folder}/exit)
  rm {folder}/exit
  leave "$code"
fi
leave 0
"""
B = """
about >"$ARTIFACTS_DIR/b.txt" || leave 9
cat -- "$ARTIFACTS_DIR/a.txt" >>"$ARTIFACTS_DIR/b.txt" || leave 9
say "line 1"
leave 0
"""


def scripts(folder: Path, port: int) -> dict[str, str]:
    """Return the script of each stage; `folder` holds the truth and what they are told."""
    begin = FULL + MARK.format(port=port) + SAY.format(folder=folder)
    return {
        "a": begin + A.format(folder=folder, ticks=TICKS, tick=TICK),
        "b": begin + B.format(),
    }


def bootstrap(port: int, offset: Path) -> tuple[tuple[str, str], ...]:
    """Return what becomes what in user data: marks at its steps, and the clock of the sweep."""
    return (
        ("set -uo pipefail\n", f"set -uo pipefail\n{FULL}{MARK.format(port=port)}"),
        ("  step='the start'\n", "  step='the start'; mark instance/bootstrap-start\n"),
        ("  step='reading the instance tags'\n",
         "  step='reading the instance tags'; mark instance/bootstrap-armed\n"),
        ("  step='reading the launch record'\n",
         "  step='reading the launch record'; mark instance/bootstrap-record\n"),
        ("  step='restoring the code'\n",
         "  step='restoring the code'; mark instance/bootstrap-code\n"),
        ("  step='restoring the Python environment'\n",
         "  step='restoring the Python environment'; mark instance/bootstrap-python\n"),
        ("  step='running the stages'\n",
         "  step='running the stages'; mark instance/bootstrap-guest\n"),
        ("  trap '' TERM INT HUP\n", "  trap '' TERM INT HUP\n  mark instance/bootstrap-leave\n"),
        (NOW, f"({NOW} + dt.timedelta(seconds=float(open({str(offset)!r}).read())))"),
    )  # fmt: skip
