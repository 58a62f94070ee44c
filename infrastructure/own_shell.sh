# shellcheck shell=bash
# Summary: goes on in a bash that nothing of the caller's changes, with descriptors 0, 1 and 2 open.
#
# Usage:   POSIXLY_CORRECT=1
#          . infrastructure/own_shell.sh    first of all, with the script's own arguments
#
# Why it exists: bash takes settings from its environment: options (SHELLOPTS, BASHOPTS), functions that
# hide its commands, a file that runs before the first line (BASH_ENV), a limit for every `read` (TMOUT).
# Each can stop a run, and the file can give it another run date. `bash -p` reads none of the first three
# (bash(1), «Invocation»). So a bash that was given one starts itself again in its own place, with -p and
# with the variables that it was started with (proc(5), environ). A stage gets the caller's variables all
# the same: the shim takes them from the entry's environ.
#
# With POSIXLY_CORRECT set, bash finds its special builtins (exec, export, unset, …) before functions of
# the same names; the first line here takes care of the rest. It holds under `set -eu` too.

\unset -f compgen declare env read unalias
\unalias -a

# A closed one would be the number of the next file that is opened, and get what is printed.
{ :; } 3>&2 2>/dev/null || exec 2>/dev/null
{ :; } 2>/dev/null <&0 || exec 0</dev/null
{ :; } 2>/dev/null >&1 || exec 1>/dev/null

if [[ $- != *p* ]]; then
  # Without the NULs between the variables, which is enough to see that none of these is there.
  { own_shell_found=$(<"/proc/$$/environ"); } 2>/dev/null || own_shell_found=BASH_ENV=
  case $own_shell_found in
    *BASH_ENV=* | *BASH_FUNC_* | *SHELLOPTS=* | *BASHOPTS=* | *POSIXLY_CORRECT=*)
      declare -A own_shell_given=()
      own_shell_env=()
      # BASH_ENV may have changed some, made them unchangeable, or exported more.
      while IFS= read -r -d '' own_shell_pair; do
        own_shell_name=${own_shell_pair%%=*}
        case $own_shell_name in
          *[!A-Za-z0-9_]* | [0-9]* | '' | _ | PWD | OLDPWD | SHLVL | SHELLOPTS | BASHOPTS) continue ;;
          *) ;;
        esac
        own_shell_given[$own_shell_name]=${own_shell_pair#*=}
      done 2>/dev/null <"/proc/$$/environ" || [[ -n ${BASH_ENV-} ]]
      for own_shell_name in "${!own_shell_given[@]}"; do
        own_shell_pair=${own_shell_given[$own_shell_name]}
        if [[ -v $own_shell_name && ${!own_shell_name@a} == *r* ]]; then
          # Only of what is no secret: everybody sees the arguments of a command.
          [[ $own_shell_name != RUN_DATE ]] || own_shell_env+=("RUN_DATE=$own_shell_pair")
        else
          export "$own_shell_name=$own_shell_pair"
        fi
      done
      if ((${#own_shell_given[@]})); then
        for own_shell_name in $(compgen -e); do
          case $own_shell_name in
            PWD | OLDPWD | SHLVL | SHELLOPTS | BASHOPTS) continue ;;
            *) ;;
          esac
          [[ -v own_shell_given[$own_shell_name] ]] || own_shell_env=(-u "$own_shell_name" "${own_shell_env[@]}")
        done
      fi
      own_shell_bash=$BASH
      [[ ${own_shell_bash##*/} == bash ]] || own_shell_bash=bash # called as sh, it would be in POSIX mode again
      # What is ignored now could never be trapped in there (bash(1), «trap»).
      trap : USR1 USR2
      unset -f exec
      [[ -v own_shell_given[POSIXLY_CORRECT] ]] || unset -v POSIXLY_CORRECT
      if ((${#own_shell_env[@]})); then
        exec env "${own_shell_env[@]}" "$own_shell_bash" -p -- "${BASH_SOURCE[1]}" "$@"
      fi
      exec "$own_shell_bash" -p -- "${BASH_SOURCE[1]}" "$@"
      ;;
    *) ;;
  esac
fi
unset -v POSIXLY_CORRECT TMOUT FUNCNEST BASH_COMPAT EXECIGNORE BASH_XTRACEFD GLOBIGNORE CDPATH "${!own_shell_@}"
set +o posix +o noglob +o noclobber
