# Sourced after bootstrap.sh: runs playbooks in phases, says what goes on, and times it.
#
#   phase TITLE ... phase_end   around the work of a phase; phases prints all with their times
#   play PLAYBOOK [OPTION...]   run a playbook: on the terminal its current task and the messages
#                               that it has for people, everything in the log (log_to FILE)
#   become_password             ask once for the password of sudo, when it wants one
# shellcheck shell=bash

PROGRESS_VERBOSE=${PROGRESS_VERBOSE:-}
_log=/dev/null _phase='' _phase_began=0 _phases=() _began=$SECONDS
# What play() reads below has this form.
export ANSIBLE_CALLBACK_RESULT_FORMAT=json ANSIBLE_STDOUT_CALLBACK=ansible.builtin.default
export ANSIBLE_NOCOLOR=1 ANSIBLE_DEPRECATION_WARNINGS=false ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false
: "${_red=}" "${_plain=}" # of bootstrap.sh

log_to() {
  _log=$1
  : >"$_log"
}

phase() {
  _phase=$1
  _phase_began=$SECONDS
  say "$_phase"
}

phase_end() {
  local took=$((SECONDS - _phase_began))
  _phases+=("$(printf '%4d s  %s' "$took" "$_phase")")
  note "done in $took s"
}

phases() {
  say "All of it in $((SECONDS - _began)) s"
  local line
  for line in "${_phases[@]}"; do note "$line"; done
}

_now() { # what is being done, on a line that is overwritten
  [ -t 1 ] || return 0
  printf '\r\033[K    %.*s' "$((${COLUMNS:-80} - 6))" "$1"
}

_forget_now() { [ ! -t 1 ] || printf '\r\033[K'; }

# Hands on of Ansible's output what people want to see.
_people() {
  local line in_message=''
  while IFS= read -r line; do
    case $line in
      "TASK ["*)
        line=${line#TASK [}
        _now "${line%%]*}"
        ;;
      '    "msg": ['*) in_message=1 ;;
      '    ]'*) in_message='' ;;
      '    "msg": "'*)
        _forget_now
        line=${line#*'"msg": "'}
        _message "${line%'"'*}"
        ;;
      "fatal: "* | "[ERROR]: "* | "failed: "*) _forget_now && note "${line:0:1500}" ;;
      *) [ -z "$in_message" ] || { _forget_now && _message "$(_string "$line")"; } ;;
    esac
  done
  _forget_now
}

_string() { # the text of one line of a JSON list
  local text=${1#*'"'}
  text=${text%,}
  printf '%s' "${text%'"'}"
}

_message() {
  local text=${1//\\\"/\"}
  [ "${#text}" -le 160 ] || text="${text:0:157}..."
  printf '    | %s\n' "$text"
}

play() {
  local status=0
  printf '\n### ansible-playbook %s\n' "$*" >>"$_log"
  if [ -n "$PROGRESS_VERBOSE" ]; then
    ansible-playbook "$@" </dev/null 2>&1 | tee -a "$_log" || status=$?
  else
    ansible-playbook "$@" </dev/null 2>&1 | tee -a "$_log" | _people || status=$?
  fi
  [ "$status" -eq 0 ] || _failed "$status" "$@"
}

_failed() {
  local status=$1
  shift
  [ "$_log" = /dev/null ] || note "The log has everything: $_log"
  printf '%serror:%s %s ended with %s, in: %s\n' "$_red" "$_plain" "$1" "$status" "$_phase" >&2
  exit 1
}

become_password() {
  [ "$(id -u)" -ne 0 ] || return 0
  command -v sudo >/dev/null 2>&1 || die "the boxes are made as root, and there is no sudo." "Run the script as root, or install sudo."
  sudo -n true 2>/dev/null && return 0
  [ -t 0 ] || die "sudo wants a password, and there is no terminal to ask for it." "Run the script on a terminal, or as root."
  local password
  read -rsp "    sudo password of $(id -un), to make boxes with podman: " password
  printf '\n'
  printf '%s\n' "$password" | sudo -S -v 2>/dev/null || die "sudo does not take this password."
  ANSIBLE_BECOME_PASSWORD_FILE=$(umask 077 && mktemp)
  export ANSIBLE_BECOME_PASSWORD_FILE
  trap 'rm -f "$ANSIBLE_BECOME_PASSWORD_FILE"' EXIT
  printf '%s' "$password" >"$ANSIBLE_BECOME_PASSWORD_FILE"
}
