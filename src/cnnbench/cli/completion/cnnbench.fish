# Completion of cnnbench for fish.
function __cnnbench_complete
    set -l words (commandline -opc)
    set -l found (env _CNNBENCH_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
        _TYPER_COMPLETE_ARGS=(commandline -cp) $words[1] 2>/dev/null)
    if test -n "$found"
        printf '%s\n' $found
    else
        set -l parts (string match --regex '^(.*=)?(.*)$' -- (commandline -ct))
        set -l start (string replace --regex '^~/' $HOME/ -- $parts[3])
        for path in $start*
            test -d $path; and set path $path/
            echo $parts[2]$path
        end
    end
end
complete --command cnnbench --no-files --arguments '(__cnnbench_complete)'
