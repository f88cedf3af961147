"""How a script of a control plane replaces objects of Kubernetes."""

REPLACE = """\
# a controller that writes the status of an object between kubectl's reading and writing makes the API refuse it
replace() {
  tries=0
  until printed=$(kubectl replace -f "$@" 2>&1); do
    case $printed in *"(Conflict)"*) tries=$((tries + 1)) ;; *) tries=10 ;; esac
    [ "$tries" -lt 10 ] || { printf '%s\\n' "$printed" >&2; return 1; }
    sleep 1
  done
  printf '%s\\n' "$printed"
}
"""
"""Shell function that replaces the objects in the file $1, with further options of kubectl."""
