# Completion of cnnbench for bash, from 3.2 on.
_cnnbench() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n' found before='' i
    local word=${line##*[[:space:]]}
    found=$(_CNNBENCH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=$line \
        "$1" 2>/dev/null | cut -f 1)
    COMPREPLY=()
    [ -n "$found" ] || return 0
    # Readline replaces only what follows the last of its word breaks, which = and : may be.
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && before=${word%"${word##*=}"}
    [[ $COMP_WORDBREAKS == *:* && ${word#"$before"} == *:* ]] && before=${word%"${word##*:}"}
    while read -r i; do
        i=${i#"$before"}
        case $i in *= | */) ;; *) i="$i " ;; esac
        COMPREPLY+=("$i")
    done <<<"$found"
}
complete -o nospace -o default -F _cnnbench cnnbench
