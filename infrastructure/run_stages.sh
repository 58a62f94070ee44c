# shellcheck shell=bash disable=SC2154 # children_stop is of children.sh
# Summary: the entry's loop: plan once, check, run each planned stage, exit by the worst that happened.
#
# Usage:   . infrastructure/say.sh
#          . infrastructure/environment.sh
#          . infrastructure/children.sh
#          . infrastructure/run_stages.sh
#          run_stages ROOT [OPTIONS]
#
# Why it exists: whatever a stage, a trap, a cleanup or a print does, the exit code that leaves here is the
# stage's, and what was planned is what runs. The shim parses everything once; this only loops over its answer.

# run_stages_python ROOT: sets the caller's `python`. What is slow is a child, so that a signal can end it.
run_stages_python() {
  local root=$1
  if [[ -n ${SPOT_BACKTEST_PYTHON-} ]]; then
    python=$(environment_python "$root") || return
  else
    python=$root/.venv/bin/python
    environment_current "$root" requirements/run.txt \
      || children_run now environment_python "$root" >/dev/null || return
  fi
  ((children_stop == 0)) || return "$children_stop"
}

# run_stages_shim ROOT [ARGUMENTS]: the shim's own command line, in the place of this process.
run_stages_shim() {
  local root=$1 python=''
  shift
  run_stages_python "$root" || return
  exec "$python" -I "$root/shim" "$@"
}

# run_stages_help ROOT: the entry's own header, then every option that the shim knows.
run_stages_help() {
  local root=$1 line
  local -a lines=()
  while IFS= read -r line; do
    [[ $line == '#!'* ]] && continue
    [[ $line == '#'* ]] || break
    line=${line#'#'}
    lines+=("${line# }")
  done <"$root/spot_backtest.sh"
  say_text "${lines[@]}" ''
  run_stages_shim "$root" options
}

# run_stages ROOT [OPTIONS]
run_stages() {
  local root=$1 python='' temporary code=0
  shift
  run_stages_python "$root" || return

  local plan='' run_date='' on='' quiet='' preflight_only='' requirements='' requirements_root=''
  local -a rows=() stages=() notices=()
  run_stages_whole run_stages_plan "$@" || return
  if [[ -z $plan || -z $run_date ]]; then
    say_error "internal error: the plan came back empty (from $python -I $root/shim entry); nothing has run; please report it"
    return 70
  fi
  RUN_DATE=$run_date
  readonly RUN_DATE
  export RUN_DATE

  [[ -n $quiet ]] || say_error "${notices[@]}"
  ((${#stages[@]})) || return 0
  if [[ $on == spot && -z $preflight_only ]]; then
    children_listen USR1 USR2
    children_run held run_stages_given spot || code=$?
    run_stages_leave "$code"
    return
  fi
  if [[ $on == here && -n $requirements && $requirements_root == "$root" ]]; then
    children_run now environment_add "$root" "$python" "$requirements" || return
  fi
  run_stages_whole children_run now run_stages_given preflight || return
  [[ -z $preflight_only ]] || return 0

  temporary=$(mktemp -d "${TMPDIR:-/tmp}/spot_backtest.XXXXXXXX") || return 73
  # shellcheck disable=SC2064  # the directory's name of now, not of the moment of the exit
  trap "rm -rf -- $(printf '%q' "$temporary") || :" EXIT # under set -e its status would be ours
  run_stages_loop "$temporary"
}

# run_stages_whole COMMAND [ARGUMENTS]: once more if the shim found that .venv is damaged, and marked it so.
run_stages_whole() {
  local status=0
  "$@" || status=$?
  if ((status != 0 && children_stop == 0)) && [[ -z ${SPOT_BACKTEST_PYTHON-} && -e $root/.venv/unfinished ]]; then
    run_stages_python "$root" || return
    status=0
    "$@" || status=$?
  fi
  ((children_stop == 0)) || return "$children_stop"
  return "$status"
}

# run_stages_given COMMAND [ARGUMENTS]: a command of the shim with the plan, in the place of this process. It
# ends when the entry does: in a group of its own, it would outlive a SIGKILL to the entry's.
run_stages_given() {
  exec "$python" -I "$root/shim" "$@" --plan - --parent "$$" <<<"$plan"
}

# run_stages_plan [OPTIONS]: fills the caller's variables from the shim's pairs of name and value.
run_stages_plan() {
  local name value
  plan='' run_date='' rows=() stages=() notices=()
  while IFS= read -r -d '' name && IFS= read -r -d '' value; do
    case $name in
      stage) stages+=("$value") ;;
      row) rows+=("$value") ;;
      notice) notices+=("$value") ;;
      plan) plan=$value ;;
      run_date) run_date=$value ;;
      on) on=$value ;;
      quiet) quiet=$value ;;
      preflight_only) preflight_only=$value ;;
      requirements) requirements=$value ;;
      requirements_root) requirements_root=$value ;;
      *) ;;
    esac
  done < <(exec "$python" -I "$root/shim" entry "$@")
  wait "$!" # the status of the shim, which a process substitution would otherwise hide
}

# run_stages_loop TEMPORARY: stops at the first stage that fails, and before the next one after a signal.
run_stages_loop() {
  local temporary=$1 stage
  local -A outcome=() seconds=() log=()
  children_listen USR1 USR2
  for stage in "${stages[@]}"; do
    ((children_stop == 0)) || break
    children_run held run_stages_given stage "$stage" --report "$temporary/$stage" || code=$?
    run_stages_report "$stage" "$temporary/$stage"
    ((code == 0)) || break
  done
  [[ -n $quiet ]] || run_stages_table
  ((code != 0)) || [[ -v outcome[${stages[-1]}] ]] || code=$children_stop
  run_stages_leave "$code"
}

# run_stages_leave CODE: return it, or what SSM will not misread.
run_stages_leave() {
  local code=$1
  # SSM takes 137 for a timeout, and reboots the host and runs the script again on 194.
  if [[ -n ${SSM_COMMAND_ID-} && ($code == 137 || $code == 194) ]]; then
    say_error "the exit code is $code; it leaves as 1, because SSM gives $code a meaning"
    return 1
  fi
  return "$code"
}

# run_stages_report STAGE REPORT: what the shim wrote about the stage: outcome, seconds, log.
run_stages_report() {
  local stage=$1 report=$2
  local -a lines=(lost - -)
  if [[ -s $report ]]; then
    mapfile -t lines <"$report"
  fi
  outcome[$stage]=${lines[0]}
  seconds[$stage]=${lines[1]}
  log[$stage]=${lines[2]}
}

run_stages_table() {
  local stage otherwise line
  local -a lines
  printf -v line '%-12s %-18s %8s  %s' stage outcome seconds log
  lines=("$line")
  for stage in "${rows[@]}"; do
    otherwise=skipped
    [[ " ${stages[*]} " != *" $stage "* ]] || otherwise='not run'
    printf -v line '%-12s %-18s %8s  %s' "$stage" "${outcome[$stage]-$otherwise}" "${seconds[$stage]--}" "${log[$stage]--}"
    lines+=("$line")
  done
  say_text "${lines[@]}"
}
