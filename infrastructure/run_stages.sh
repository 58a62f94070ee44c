# shellcheck shell=bash
# Summary: the entry's loop: plan once, check, run each planned stage, exit by the worst that happened.
#
# Usage:   . infrastructure/environment.sh
#          . infrastructure/run_stages.sh
#          run_stages ROOT [OPTIONS]
#
# Why it exists: whatever a stage, a trap or a cleanup does, the exit code that leaves here is the stage's,
# and what was planned is what runs. The shim parses everything once; this only loops over its answer.

# run_stages_shim ROOT [ARGUMENTS]: the shim's own command line.
run_stages_shim() {
  local root=$1 python
  shift
  python=$(environment_python "$root") || return
  "$python" "$root/shim" "$@"
}

# run_stages_help ROOT: the entry's own header, then every option that the shim knows.
run_stages_help() {
  local root=$1 line
  while IFS= read -r line; do
    [[ $line == '#!'* ]] && continue
    [[ $line == '#'* ]] || break
    line=${line#'#'}
    printf '%s\n' "${line# }"
  done <"$root/spot_backtest.sh"
  printf '\n'
  run_stages_shim "$root" options
}

# run_stages ROOT [OPTIONS]
run_stages() {
  local root=$1 python temporary code=0 child='' interrupted='' stop=0
  shift
  python=$(environment_python "$root") || return

  local plan='' run_date='' on='' quiet='' preflight_only='' requirements='' requirements_root=''
  local -a rows=() stages=() notices=()
  run_stages_plan "$@" || return
  RUN_DATE=$run_date
  readonly RUN_DATE
  export RUN_DATE

  run_stages_say "${notices[@]}"
  ((${#stages[@]})) || return 0
  if [[ $on == spot && -z $preflight_only ]]; then
    run_stages_listen
    run_stages_child spot || code=$?
    run_stages_leave "$code"
    return
  fi
  if [[ $on == here && -n $requirements && $requirements_root == "$root" ]]; then
    environment_add "$root" "$python" "$requirements" || return
  fi
  "$python" "$root/shim" preflight --plan - <<<"$plan" || return
  [[ -z $preflight_only ]] || return 0

  temporary=$(mktemp -d "${TMPDIR:-/tmp}/spot_backtest.XXXXXXXX") || return 73
  # shellcheck disable=SC2064  # the directory's name of now, not of the moment of the exit
  trap "rm -rf -- $(printf '%q' "$temporary")" EXIT
  run_stages_loop "$temporary"
}

# run_stages_plan [OPTIONS]: fills the caller's variables from the shim's pairs of name and value.
run_stages_plan() {
  local name value
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
  done < <("$python" "$root/shim" entry "$@")
  wait "$!" # the status of the shim, which a process substitution would otherwise hide
}

run_stages_say() {
  [[ -z $quiet ]] || return 0
  printf 'spot_backtest: %s\n' "$@" >&2
}

# run_stages_loop TEMPORARY: stops at the first stage that fails, and before the next one after a signal.
run_stages_loop() {
  local temporary=$1 stage
  local -A outcome=() seconds=() log=()
  run_stages_listen
  for stage in "${stages[@]}"; do
    ((stop == 0)) || break
    run_stages_child stage "$stage" --report "$temporary/report" || code=$?
    run_stages_report "$stage" "$temporary/report"
    ((code == 0)) || break
  done
  [[ -n $quiet ]] || run_stages_table
  ((code != 0)) || [[ -v outcome[${stages[-1]}] ]] || code=$stop
  run_stages_leave "$code"
}

# run_stages_leave CODE: return it, or what SSM will not misread.
run_stages_leave() {
  local code=$1
  # SSM takes 137 for a timeout, and reboots the host and runs the script again on 194.
  if [[ -n ${SSM_COMMAND_ID-} && ($code == 137 || $code == 194) ]]; then
    printf 'spot_backtest: the exit code is %d; it leaves as 1, because SSM gives %d a meaning\n' "$code" "$code" >&2
    return 1
  fi
  return "$code"
}

# run_stages_listen: every signal goes to the child of the moment.
run_stages_listen() {
  local number
  for number in TERM INT HUP QUIT USR1 USR2; do
    # shellcheck disable=SC2064  # the name of now
    trap "run_stages_forward $number" "$number"
  done
}

# run_stages_child COMMAND [ARGUMENTS]: the shim's command with the plan, in a process group of its own, so that
# a trap fires when the signal comes and a Ctrl-C reaches the child once, through it.
run_stages_child() {
  local status
  set -m
  "$python" "$root/shim" "$@" --plan - --parent "$$" <<<"$plan" &
  child=$!
  set +m
  while :; do
    interrupted=''
    status=0
    wait "$child" || status=$?
    # A trap ends a wait early with 128+n; the next wait has the child's own status.
    [[ -n $interrupted ]] || break
  done
  child=''
  return "$status"
}

# run_stages_forward SIGNAL
run_stages_forward() {
  local name=$1
  interrupted=1
  case $name in
    HUP | INT | QUIT | TERM) stop=$((128 + $(kill -l "$name"))) ;;
    *) ;;
  esac
  if [[ -n $child ]]; then
    kill -s "$name" "$child" 2>/dev/null || : # it ended by itself
  fi
}

# run_stages_report STAGE REPORT: what the shim wrote about the stage: outcome, seconds, log.
run_stages_report() {
  local stage=$1 report=$2
  local -a lines=(lost - -)
  if [[ -s $report ]]; then
    mapfile -t lines <"$report"
    rm -f -- "$report"
  fi
  outcome[$stage]=${lines[0]}
  seconds[$stage]=${lines[1]}
  log[$stage]=${lines[2]}
}

run_stages_table() {
  local stage otherwise
  printf '%-12s %-18s %8s  %s\n' stage outcome seconds log
  for stage in "${rows[@]}"; do
    otherwise=skipped
    [[ " ${stages[*]} " != *" $stage "* ]] || otherwise='not run'
    printf '%-12s %-18s %8s  %s\n' "$stage" "${outcome[$stage]-$otherwise}" "${seconds[$stage]--}" "${log[$stage]--}"
  done
}
