#compdef cnnbench
# Completion of cnnbench for zsh.
_cnnbench() {
    local -a found open whole
    found=("${(@f)$(_CNNBENCH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS="${(j: :)words[1,CURRENT-1]} $PREFIX" ${~words[1]} 2>/dev/null)}")
    found=("${(@)found%%$'\t'*}")
    found=("${(@)found:#}")
    if (( ! $#found )); then
        compset -P '*='
        _files
        return
    fi
    open=("${(@M)found:#*[=/]}")
    whole=("${(@)found:#*[=/]}")
    (( $#open )) && compadd -Q -S '' -a open
    (( $#whole )) && compadd -Q -a whole
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
compdef _cnnbench cnnbench
