# bash completion for kubypass: kubypass completion bash
_kubypass() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} place=kubypass words="" word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$place $word" in
            'kubypass agent'|'kubypass status'|'kubypass pod'|'kubypass pod list'|'kubypass service'|'kubypass service list'|'kubypass trace'|'kubypass metrics'|'kubypass config'|'kubypass config check'|'kubypass install'|'kubypass uninstall'|'kubypass connectivity'|'kubypass connectivity test'|'kubypass cleanup'|'kubypass completion'|'kubypass version')
                place="$place $word" ;;
        esac
    done
    COMPREPLY=()
    case "$place $previous" in
        'kubypass agent --manifests') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --kubeconfig') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --config') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --config-map') return ;;
        'kubypass agent --node-configs') return ;;
        'kubypass agent --node') return ;;
        'kubypass agent --cgroup') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --check-every') return ;;
        'kubypass agent --cni-conf-dir') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --cni-bin-dir') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass agent --bpffs') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass status --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass status --bpffs') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass status -o'|'kubypass status --output') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
        'kubypass pod list -n'|'kubypass pod list --namespace') return ;;
        'kubypass pod list --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass pod list -o'|'kubypass pod list --output') mapfile -t COMPREPLY < <(compgen -W 'text wide json' -- "$current"); return ;;
        'kubypass service list -n'|'kubypass service list --namespace') return ;;
        'kubypass service list --port') return ;;
        'kubypass service list --type') return ;;
        'kubypass service list --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass service list --bpffs') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass service list -o'|'kubypass service list --output') mapfile -t COMPREPLY < <(compgen -W 'text wide json' -- "$current"); return ;;
        'kubypass trace --from') return ;;
        'kubypass trace --source-address') return ;;
        'kubypass trace --to') return ;;
        'kubypass trace --pcap') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass trace --hook') return ;;
        'kubypass trace -o'|'kubypass trace --output') return ;;
        'kubypass trace --manifests') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass trace --node') return ;;
        'kubypass trace --config') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass trace --batch') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass trace --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass trace --bpffs') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass metrics --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass config check -o'|'kubypass config check --output') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
        'kubypass install --values') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass install --set') return ;;
        'kubypass install -o'|'kubypass install --output') mapfile -t COMPREPLY < <(compgen -W 'text yaml json' -- "$current"); return ;;
        'kubypass install --wait') return ;;
        'kubypass install --kubeconfig') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass uninstall --wait') return ;;
        'kubypass uninstall --kubeconfig') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass connectivity test --image') return ;;
        'kubypass connectivity test --node') return ;;
        'kubypass connectivity test --outside') return ;;
        'kubypass connectivity test --wait') return ;;
        'kubypass connectivity test -o'|'kubypass connectivity test --output') mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current"); return ;;
        'kubypass connectivity test --kubeconfig') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass cleanup --run') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        'kubypass cleanup --bpffs') mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    esac
    case "$place" in
        kubypass) words='agent status pod service trace metrics config install uninstall connectivity cleanup completion version -h --help' ;;
        'kubypass agent') words='-h --help --manifests --kubeconfig --config --config-map --node-configs --node --cgroup --check-every --prepare-node --cni-conf-dir --cni-bin-dir --run --bpffs' ;;
        'kubypass status') words='-h --help --run --bpffs -o --output -v --verbose --check' ;;
        'kubypass pod') words='list -h --help' ;;
        'kubypass pod list') words='-h --help -n --namespace --run -o --output' ;;
        'kubypass service') words='list -h --help' ;;
        'kubypass service list') words='-h --help -n --namespace --port --type --run --bpffs -o --output' ;;
        'kubypass trace') words='-h --help --from --source-address --to --pcap --hook -o --output --manifests --node --config --batch --run --bpffs' ;;
        'kubypass metrics') words='-h --help --run' ;;
        'kubypass config') words='check -h --help' ;;
        'kubypass config check') words='-h --help --this-node -o --output' ;;
        'kubypass install') words='-h --help --dry-run --values --set -o --output --force-conflicts --wait --kubeconfig' ;;
        'kubypass uninstall') words='-h --help --dry-run --keep-datapath --wait --kubeconfig' ;;
        'kubypass connectivity') words='test -h --help' ;;
        'kubypass connectivity test') words='-h --help --image --node --outside --wait --keep -o --output --kubeconfig' ;;
        'kubypass cleanup') words='-h --help --run --bpffs --force' ;;
        'kubypass completion') words='bash zsh fish man -h --help' ;;
        'kubypass version') words='-h --help' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _kubypass kubypass
