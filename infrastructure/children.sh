# shellcheck shell=bash
# Summary: runs one child at a time, and passes on to it the signals that come meanwhile.
#
# Usage:   . infrastructure/children.sh
#          children_listen TERM INT HUP QUIT      from now on; children_stop is 128+n after one of them
#          children_run now COMMAND [ARGUMENTS]   a child that has no handlers: what stops ends it
#          children_run held COMMAND [ARGUMENTS]  a child that gets a signal once it can take it
#
# Why it exists: a child runs in the background in its own process group and is waited for, so that a trap
# fires when the signal comes, not when the child ends, and a Ctrl-C reaches the child once. Python needs
# some tenths of a second until the shim's handlers are there; a USR1 before that would kill it.

children_stop=0
children_child=''
children_mode=''
children_waiting=()
children_busy=''
children_ended=''
children_interrupted=''

# children_listen SIGNAL...: from now on each goes to the child of the moment, or waits for the next.
children_listen() {
  local name
  for name; do
    # shellcheck disable=SC2064 # the name of now
    trap "children_take $name" "$name"
  done
}

children_take() {
  local name=$1
  children_interrupted=1
  children_waiting+=("$name")
  case $name in
    HUP | INT | QUIT | TERM) children_stop=$((128 + $(kill -l "$name"))) ;;
    *) ;;
  esac
  children_pass_on
}

# children_run MODE COMMAND [ARGUMENTS]: returns its status; 128+n, and starts nothing, after a signal.
children_run() {
  local status
  children_mode=$1 children_ended=''
  shift
  ((children_stop == 0)) || return "$children_stop"
  set -m
  "$@" &
  children_child=$!
  set +m
  children_pass_on # what came before it had its number
  while :; do
    children_interrupted=''
    status=0
    wait "$children_child" || status=$?
    # A trap ends a wait early with 128+n; the next wait has the child's own status.
    [[ -n $children_interrupted ]] || break
  done
  children_child=''
  [[ -z $children_ended || $status != 143 ]] || status=$children_stop
  return "$status"
}

# children_pass_on: gives the child what waits. A trap that comes meanwhile only adds to that.
children_pass_on() {
  while [[ -n $children_child && -z $children_busy ]] && ((${#children_waiting[@]})); do
    children_busy=1
    while ((${#children_waiting[@]})); do
      if children_give "${children_waiting[0]}"; then
        children_waiting=("${children_waiting[@]:1}")
      else
        sleep 0.05
      fi
    done
    children_busy=''
  done
}

# children_give SIGNAL: fails if the child cannot take it yet.
children_give() {
  local name=$1 caught
  children_look || return 0 # it ended by itself
  case $name in
    HUP | INT | QUIT | TERM)
      if [[ $children_mode == held ]] && children_catches TERM; then
        kill -s "$name" -- "$children_child" 2>/dev/null || : # it ended by itself
      else
        # There is no handler, so nothing has begun; TERM ends Python without a traceback.
        children_ended=1
        kill -s TERM -- "-$children_child" 2>/dev/null || : # it ended by itself
      fi
      ;;
    *)
      if children_catches "$name"; then
        kill -s "$name" -- "$children_child" 2>/dev/null || : # it ended by itself
      elif [[ $children_mode == held ]] && ! children_catches TERM; then
        return 1
      fi
      ;;
  esac
}

# children_look: sets the caller's `caught` to the child's SigCgt of proc(5); fails if the child is gone.
# Before its exec it is this bash, whose handlers are not its own. Without /proc it catches everything.
children_look() {
  local name value own=''
  caught=ffffffffffffffff
  [[ -r /proc/$$/comm ]] || return 0
  read -r own <"/proc/$$/comm" || :
  while IFS=$':\t' read -r name value; do
    case $name in
      Name) [[ $value != "$own" ]] || own=yet ;;
      State) [[ $value != Z* ]] || return 1 ;;
      SigCgt)
        caught=$value
        [[ $own != yet ]] || caught=0
        return 0
        ;;
      *) ;;
    esac
  done 2>/dev/null <"/proc/$children_child/status"
  return 1
}

# children_catches SIGNAL: by the caller's `caught`.
children_catches() {
  ((16#$caught >> ($(kill -l "$1") - 1) & 1))
}
