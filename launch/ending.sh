# Sourced by scripts that start long programs: a script that is ended takes with it what it started.
# run COMMAND...   runs a command; when the script is asked to end meanwhile, the command is asked too, and waited for.

running=
run() {
    local code=0
    "$@" &
    running=$!
    wait "$running" || code=$?
    running=
    return "$code"
}

end_running() { # exit code
    trap '' HUP INT TERM
    # SIGTERM, since the shell lets commands in the background ignore Ctrl-C. A training saves before it ends.
    if [ -n "$running" ]; then kill -TERM "$running" && wait "$running"; fi
    exit "$1"
}
trap 'end_running 129' HUP
trap 'end_running 130' INT
trap 'end_running 143' TERM
