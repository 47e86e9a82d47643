# Writes sw_version.h: the version, a hash of the code that decides outcomes, and the git commit.
# Run at every build; the file is touched only when something changed.
#   SOURCE   root of the source tree          VERSION  of the project
#   OUT      the header to write              BUILD    the build type
#   FLAGS    compilers and flags, as a text

# The hash is a part of every cell's key. It covers what a cell's result is made by, not what later
# reads, compares and prints it: otherwise a word in a report would run all stored cells again.
set(patterns)
foreach(extension c h cpp hpp cu cuh inc)
  foreach(folder core kernels harness/config harness/inputs harness/plan harness/run harness/store)
    list(APPEND patterns ${SOURCE}/${folder}/*.${extension})
  endforeach()
endforeach()
file(GLOB_RECURSE sources RELATIVE ${SOURCE} ${patterns} ${SOURCE}/kernels/*/CMakeLists.txt
     ${SOURCE}/kernels/CMakeLists.txt)
list(SORT sources)
set(all "${FLAGS}")
foreach(source ${sources})
  file(SHA256 ${SOURCE}/${source} hash)
  string(APPEND all "${hash}")
endforeach()
string(SHA256 code "${all}")
string(SUBSTRING ${code} 0 16 code)

set(git "unknown")
find_program(GIT git)
if(GIT)
  execute_process(
    COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --abbrev=12
    OUTPUT_VARIABLE out ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE rc)
  if(rc EQUAL 0)
    set(git ${out})
  endif()
endif()

# The manual's date: of the commit; without git, of the build (or SOURCE_DATE_EPOCH).
set(date "")
if(GIT)
  execute_process(
    COMMAND ${GIT} -C ${SOURCE} log -1 --format=%cs
    OUTPUT_VARIABLE date ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT date MATCHES "^[0-9-]+$")
  string(TIMESTAMP date "%Y-%m-%d" UTC)
endif()

set(text "")
foreach(pair "VERSION|${VERSION}" "CODE_HASH|${code}" "GIT|${git}" "BUILD_TYPE|${BUILD}"
             "DATE|${date}")
  string(REGEX REPLACE "^([A-Z_]+)\\|(.*)$" "#define SW_\\1 \"\\2\"\n" line "${pair}")
  string(APPEND text "${line}")
endforeach()
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
