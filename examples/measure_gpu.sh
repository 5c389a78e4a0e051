#!/usr/bin/env bash
# Measures on a GPU everything that is claimed of one, about twenty minutes on an H100:
#
#   examples/measure_gpu.sh RESULTS          reports (JSON), tables (TXT) and charts into the folder RESULTS
#   examples/measure_gpu.sh RESULTS --dry    the same commands on the CPU with a tiny network, to try the script
#
# Full-size networks have random weights (speed does not depend on values) where no others are installed. What is compared
# stands in one command, so that it is measured in one run, side by side. PYTHON chooses the interpreter.
set -euo pipefail
mkdir -p "${1:?name a folder for the results}"
results=$(cd "$1" && pwd)
mode=${2:-}
cd "$(dirname "$0")/.."
failed=()

measure() {
    local name=$1
    shift
    echo "== $name: bench $*" >&2
    "${PYTHON:-python}" -m portraitanim bench "$@" --output "$results/$name.json" | tee "$results/$name.txt" ||
        failed+=("$name")
}

if [ "$mode" = --dry ]; then
    small=(--preset tiny --weights random --size 64 --frames 10 --steps 2 --repeats 1 --device cpu)
    hallo=("${small[@]}")
    acc=("${small[@]}" --set sampling.plan=overlapping --set sampling.num_overlap_frames=2
        --set sampling.num_motion_frames=0)
    table7=(--table7 "${small[@]}")
    tiny=(--preset tiny --size 64 --frames 10 --repeats 1 --device cpu)
    memory=(--preset tiny --size 64 --device cpu)
    variants=(--variant plain+channels-last+fused)
elif [ -z "$mode" ]; then
    hallo=(--preset hallo --size 512 --frames 32 --device cuda)
    acc=(--preset echomimic-acc --size 512 --frames 96 --device cuda)
    table7=(--table7 --device cuda --chart "$results/table7.png")
    tiny=(--preset tiny --frames 96 --device cuda)
    memory=(--preset hallo --preset echomimic --size 256 --size 512 --device cuda)
    variants=(--variant plain --variant plain+work-ahead --variant plain+decode-batch=4 --variant plain+decode-batch=8
        --variant plain+channels-last --variant plain+fused
        # With compile, steps are replayed as CUDA graphs.
        --variant plain+compile --variant plain+compile+fused --variant compile+channels-last)
else
    echo "Unknown option $mode: use --dry, or nothing." >&2
    exit 2
fi

# Real time: 25 frames per second end to end by accelerated EchoMimic, six steps at 512 pixels.
measure echomimic-acc "${acc[@]}" "${variants[@]}" --variant window-batch=2 --variant window-batch=4
# 0.35 s per frame exact, 0.10 balanced; 40 % of the matrix peak in the denoiser ("of peak" in the table).
measure hallo-speeds "${hallo[@]}" --speed exact --speed balanced --speed fast
measure hallo-variants "${hallo[@]}" "${variants[@]}"
measure hallo-dtypes "${hallo[@]}" --dtype fp32 --dtype bf16
measure table7 "${table7[@]}"
measure tiny "${tiny[@]}" "${variants[@]}"
# The predictions that --max-vram stands on, which should hold within 10 %.
measure memory --memory "${memory[@]}"
# How much the speeds differ, on trained weights.
measure tiny-quality "${tiny[@]}" --speed exact --speed balanced --speed fast --quality

if [ "${#failed[@]}" -gt 0 ]; then
    echo "Failed: ${failed[*]}" >&2
    exit 1
fi
echo "Results: $results" >&2
