# shellcheck shell=bash
# Summary: the Python that runs the shim, made on first use.
#
# Usage:   . infrastructure/environment.sh
#          python=$(environment_python ROOT)
#          environment_add ROOT PYTHON requirements/example.txt
#
# ROOT is the absolute path of the repository. SPOT_BACKTEST_PYTHON names an interpreter that already has
# the packages, as on an instance: it is used as it is and nothing is installed. Without it the Python is
# ROOT/.venv/bin/python, installed from requirements/run.txt with hashes: by uv if it is on PATH and can,
# else by pip. Messages go to stderr, the path to stdout; every failure returns 69.
#
# Why it exists: the first call on a fresh clone must just work, every later one must cost next to
# nothing, and a set-up that was killed halfway must never be taken for a finished one. So .venv holds a
# copy of each lock file it was installed from, written last; it is complete if and only if the copy
# equals the lock file. Without requirements/run.txt's copy, or with the mark `unfinished`, it is made
# again from nothing; so it is when fewer modules are there than were installed (somebody deleted half of
# it), or when the shim could not import one of them and has set the mark.

# environment_python ROOT: prints the interpreter's absolute path.
environment_python() {
  local root=$1
  if [[ -n ${SPOT_BACKTEST_PYTHON:-} ]]; then
    environment_named "$SPOT_BACKTEST_PYTHON"
    return
  fi
  environment_current "$root" requirements/run.txt || environment_make "$root" requirements/run.txt || return
  printf '%s\n' "$root/.venv/bin/python"
}

# environment_add ROOT PYTHON LOCK: installs one more lock file beside run.txt, once.
environment_add() {
  local root=$1 python=$2 lock=$3
  [[ -z ${SPOT_BACKTEST_PYTHON:-} && $python == "$root/.venv/bin/python" ]] || return 0
  if [[ ! -f $root/$lock ]]; then # a pipe there would be waited for
    environment_say "there is no such file ($root/$lock, from requirements in the table); name a lock file, or remove the line"
    return 78
  fi
  environment_current "$root" "$lock" || environment_make "$root" "$lock"
}

# environment_current ROOT LOCK: whether .venv holds what LOCK says. It starts no program.
environment_current() {
  local lock=$1/$2 venv=$1/.venv
  local stamp=$venv/${2##*/}
  [[ -x $venv/bin/python && ! -e $venv/unfinished && -f $lock && -f $stamp ]] || return
  [[ $(<"$lock") == "$(<"$stamp")" ]] && environment_undamaged "$venv"
}

# environment_undamaged VENV: whether as many modules are there as after the last installation.
environment_undamaged() {
  local venv=$1 modules=0
  [[ ! -f $venv/modules ]] || read -r modules <"$venv/modules" || :
  ((modules == 0)) || (($(environment_modules "$venv") >= modules))
}

# environment_modules VENV: prints how many modules lie in the packages and beside them.
environment_modules() {
  local -a modules=("$1"/lib/python3*/site-packages/{,*/}*.py)
  printf '%d\n' "${#modules[@]}"
}

# environment_say TEXT: a line on stderr; as those of say.sh it cannot fail, and this file is used alone too.
environment_say() {
  printf 'spot_backtest: %s\n' "$1" >&2 2>/dev/null || : # nobody can be told
}

# environment_tail TEXT: its last 20 lines on stderr, as another program printed them.
environment_tail() {
  local -a lines
  mapfile -t lines <<<"${1%$'\n'}"
  ((${#lines[@]} <= 20)) || lines=("${lines[@]: -20}")
  printf '%s\n' "${lines[@]}" >&2 2>/dev/null || : # nobody can be told
}

# environment_named NAME: prints the interpreter that SPOT_BACKTEST_PYTHON names, if it can run the shim.
environment_named() {
  local name=$1 python found
  if ! python=$(type -P -- "$name"); then
    environment_say "there is no such program ($name, from SPOT_BACKTEST_PYTHON); name a Python 3.11 or newer, or unset it"
    return 69
  fi
  [[ $python == /* ]] || python=$PWD/$python
  found=$(environment_probe "$python" boto3 click dateutil dotenv jsonpath_ng yaml tree_sitter tree_sitter_bash)
  case $found in
    ok) printf '%s\n' "$python" ;;
    lacks*)
      environment_say "the interpreter $found ($name, from SPOT_BACKTEST_PYTHON); install requirements/run.txt there, or unset it"
      return 69
      ;;
    *)
      environment_say "the interpreter ${found:-does not run as Python} ($name, from SPOT_BACKTEST_PYTHON); name a Python 3.11 or newer, or unset it"
      return 69
      ;;
  esac
}

# environment_probe PYTHON [MODULE…]: prints `ok`, `is Python 3.9`, `lacks boto3 click`, or nothing if it
# does not run: a pyenv shim may be on PATH and name no interpreter.
environment_probe() {
  local python=$1
  shift
  "$python" -I -c '
import sys
if sys.version_info < (3, 11):
    print("is Python %d.%d" % sys.version_info[:2])
else:
    from importlib.util import find_spec
    lacking = [name for name in sys.argv[1:] if find_spec(name) is None]
    print("lacks " + " ".join(lacking) if lacking else "ok")
' "$@" 2>/dev/null </dev/null || :
}

# environment_make ROOT LOCK: installs LOCK into .venv while no other call does.
environment_make() {
  local root=$1 lock=$2
  if [[ -e $root/.venv && ! -e $root/.venv.lock && ! -e $root/.venv/run.txt ]]; then
    environment_say "this directory was made by something else ($root/.venv); remove it, or set SPOT_BACKTEST_PYTHON=$root/.venv/bin/python"
    return 69
  fi
  if ! { : >>"$root/.venv.lock"; } 2>/dev/null; then
    environment_say "cannot make .venv, for this directory cannot be written ($root); set SPOT_BACKTEST_PYTHON to a Python 3.11 or newer that has requirements/run.txt"
    return 69
  fi
  environment_install "$root" "$lock" 9>>"$root/.venv.lock"
}

# environment_install ROOT LOCK: the same, with .venv.lock open as descriptor 9. What it starts inherits the
# descriptor, so an installer that outlives a killed call still keeps the next call out.
environment_install() {
  local root=$1 lock=$2 venv=$1/.venv tools=(pip) tool output failures=''
  if type -P flock >/dev/null && ! flock -n 9; then
    environment_say "waiting for another call that is installing into .venv"
    flock 9 || return 69
  fi
  environment_current "$root" "$lock" && return
  if type -P uv >/dev/null; then
    tools=(uv pip)
  fi
  if [[ -x $venv/bin/python && -f $venv/run.txt && ! -e $venv/unfinished ]] && environment_undamaged "$venv"; then
    environment_say "installing $lock into .venv (${tools[0]})"
  else
    environment_say "making .venv from $lock (${tools[0]})"
    environment_create "$root" || return
  fi

  for tool in "${tools[@]}"; do
    if output=$(environment_run "$tool" "$root" "$lock" 2>&1 </dev/null); then
      return
    fi
    failures+=$output$'\n'
    [[ $tool != uv ]] || environment_say "uv could not install $lock (${output##*$'\n'}); trying pip"
  done
  rm -f -- "$venv/unfinished"
  environment_tail "$failures"
  environment_say "could not install the packages ($lock, into $venv; the last lines of what tried are above); mend what they say and run it again, or set SPOT_BACKTEST_PYTHON to a Python that has them"
  return 69
}

# environment_run TOOL ROOT LOCK: one installer, between the mark `unfinished` and the copy of the lock file.
# In ROOT, for uv reads settings from the working directory.
environment_run() {
  local tool=$1 root=$2 lock=$3 python=.venv/bin/python
  local stamp=.venv/${lock##*/}
  cd -- "$root" && rm -f -- "$stamp" && : >.venv/unfinished || return
  if [[ $tool == uv ]]; then
    uv pip install --python "$python" --require-hashes -r "$lock" || return
  else
    "$python" -I -m pip --version || "$python" -I -m ensurepip || return
    "$python" -I -m pip install --disable-pip-version-check --no-input --require-hashes -r "$lock" || return
  fi
  environment_modules .venv >.venv/modules && cp -- "$lock" "$stamp" && rm -f -- .venv/unfinished
}

# environment_create ROOT: an empty .venv from the first Python on PATH that can make one. On Debian, Python
# may come without ensurepip, so that one runs and yet makes no environment with pip in it.
environment_create() {
  local root=$1 venv=$1/.venv python pythons options=() output=''
  if type -P uv >/dev/null; then
    options=(--without-pip)
  fi
  mapfile -t pythons < <(environment_pythons)
  for python in "${pythons[@]}"; do
    [[ $(environment_probe "$python") == ok ]] || continue
    environment_delete "$venv" || return
    if output=$(cd -- "$root" && "$python" -I -m venv "${options[@]}" .venv 2>&1 </dev/null); then
      return
    fi
  done
  if type -P uv >/dev/null; then
    environment_delete "$venv" || return
    if output=$(cd -- "$root" && uv venv --python '>=3.11' .venv 2>&1 </dev/null); then
      return
    fi
  fi
  if [[ -n $output ]]; then
    environment_tail "$output"
    environment_say "could not make a virtual environment ($venv; the last lines of what tried are above); mend what they say and run it again, or set SPOT_BACKTEST_PYTHON"
  else
    environment_say "there is no Python 3.11 or newer (on PATH: ${pythons[*]:-no python at all}); install one, or name one in SPOT_BACKTEST_PYTHON"
  fi
  return 69
}

# environment_delete VENV: its stamps first, so that a call that is killed here leaves nothing complete.
environment_delete() {
  rm -f -- "$1"/*.txt && rm -rf -- "$1" || return 69
}

# environment_pythons: prints every python3.N on PATH, the newest first, then every python3 and python.
environment_pythons() {
  local folder path minor
  local -a folders=() minors=() names=(python3 python)
  IFS=: read -r -a folders <<<"${PATH-}"
  for folder in "${folders[@]}"; do
    for path in "${folder:-.}"/python3.*; do
      minor=${path##*/python3.}
      [[ $minor =~ ^[1-9][0-9]?$ ]] && minors[minor]=1
    done
  done
  for minor in "${!minors[@]}"; do # in ascending order
    names=("python3.$minor" "${names[@]}")
  done
  type -aP -- "${names[@]}" || : # which is a failure if one of them is not there
}
