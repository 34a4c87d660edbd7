#!/usr/bin/env bash
# Run a command with the settings of slurm/site.sh: bash slurm/with_site.sh COMMAND... (from the repository's root).
# The file runs as in a shell of its own, whatever this one was started from or with, and only what it exports goes on.

# Exported by a shell, its options would come along into every other one.
set +euC +o pipefail
export -n SHELLOPTS BASHOPTS
# Of a launcher that this was started under.
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE NODE_RANK MASTER_ADDR MASTER_PORT "${!GROUP_@}" "${!ROLE_@}" \
    "${!ACCELERATE_@}" "${!FSDP_@}" "${!PARALLELISM_CONFIG_@}" "${!TORCHELASTIC_@}"
# Of a job that another one is submitted from: srun would take them for its own.
if [ "${1:-}" = sbatch ]; then
    for _dst_dist_name in "${!SLURM_@}"; do
        case $_dst_dist_name in SLURM_CONF | SLURM_CLUSTERS) ;; *) unset "$_dst_dist_name" ;; esac
    done
    unset CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL
fi
_dst_dist_folder=$PWD
_dst_dist_command=("$@")
# A script that is sourced without arguments, such as conda's `activate`, would read these.
set --
. slurm/site.sh
builtin cd "$_dst_dist_folder" || exit
exec "${_dst_dist_command[@]}"
