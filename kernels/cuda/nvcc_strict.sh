#!/bin/sh
# nvcc_strict.sh NVCC ARGUMENTS…: compiles, and fails where ptxas says that a kernel spills
# registers or that wgmma products wait for each other. ptxas can make errors of spills
# (-warn-spills,-Werror), but of all kernels and architectures of a file alike; what it says of
# wgmma, C7510 … C7519 (products serialised, waits put in), are "info" lines, of which no option
# makes errors. Needs -Xptxas=-v among the arguments.
#
# Spills that are known, one a line: part of the kernel's name, architecture, most bytes stored,
# why.
known='
prefill_kernelILi128ELi2E sm_90a 76 only what wgmma does not take; on sm_80 it must not spill
DeviceSegmentedRadixSortKernel sm_90a 24 a kernel of CUB
'
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
"$@" 2>"$log"
status=$?
known=$known awk '
    function excused(  i, word) {
        match($0, /[0-9]+ bytes spill stores/)
        for (i in line)
            if (split(line[i], word, " ") > 3 && index(kernel, word[1]) && word[2] == arch &&
                substr($0, RSTART) + 0 <= word[3] + 0)
                return 1
        return 0
    }
    BEGIN { split(ENVIRON["known"], line, "\n") }
    /^ptxas info .*Compiling entry function/ { split($0, part, "\047"); arch = part[4] }
    /^ptxas info .*Function properties for/ { kernel = $NF }
    /bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ && !excused() {
        print "error: " kernel " spills registers on " arch ":" $0
        failed = 1
    }
    /\(C75[0-9][0-9]\)/ {
        print "error, " $0
        failed = 1
    }
    # What remains is what a compilation without -v would have said.
    !/^ptxas info/ && !/bytes stack frame/
    END {
        if (failed)
            print "(-DSWBENCH_CUDA_STRICT=OFF builds it all the same)"
        exit failed
    }' "$log" >&2 || status=$((status ? status : 1))
if [ $status -ne 0 ]; then # no object, so that the next make compiles again
    while [ $# -gt 1 ]; do
        [ "$1" = -o ] && rm -f "$2"
        shift
    done
fi
exit $status
