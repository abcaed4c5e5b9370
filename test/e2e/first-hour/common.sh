# What the first hours share: machines are directories here, `on NAME batchmesh …` sits down at one of them, and every
# claim is checked where it is made.
set -euo pipefail

on() {
  local machine=$1
  shift
  BATCHMESH_DATA=$PWD/machines/$machine "$@"
}

step() { printf '\n== %s\n' "$*"; }

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# is WHAT ACTUAL EXPECTED
is() { [ "$2" = "$3" ] || fail "$1: expected '$3', got '$2'"; }

# has WHAT TEXT PATTERN (an extended regular expression, of one line)
has() { grep -qE -- "$3" <<<"$2" || fail "$1: nothing like '$3' in:
$2"; }

# ends CODE COMMAND…: runs it and wants this exit code; what it said is in $said
ends() {
  local expected=$1 code=0
  shift
  said=$("$@" 2>&1) || code=$?
  [ "$code" = "$expected" ] || fail "$* ended with $code, not $expected:
$said"
}
