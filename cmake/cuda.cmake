# SPDX-License-Identifier: Apache-2.0
# How kernels/*.cu are built, by BATON_CUDA:
#   on        nvcc for BATON_CUDA_ARCHS; the CUDA runtime is linked statically, so the program starts without a driver
#   emulated  g++ against tests/emu, which stands in for the runtime and the device (tests only, never a GPU)
#   off       not at all; auto is on where nvcc is found
# Sets BATON_CUDA_ON and defines baton_cuda_sources(target folder).
set(BATON_CUDA_ON OFF)
find_program(BATON_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda/bin PATH_SUFFIXES bin)
if(BATON_CUDA STREQUAL "auto")
  if(BATON_NVCC AND NOT BATON_SANITIZE AND NOT BATON_FUZZ)
    set(BATON_CUDA on)
  else()
    set(BATON_CUDA off)
  endif()
endif()
if(BATON_CUDA STREQUAL "off")
  function(baton_cuda_sources target folder)
  endfunction()
  return()
endif()

set(BATON_CUDA_ON ON)
add_compile_definitions(BATON_CUDA)
if(BATON_NVCC)
  # nvcc on PATH may be a wrapper: it tells itself where its toolkit is.
  execute_process(COMMAND ${BATON_NVCC} --dryrun -c -x cu /dev/null -o /dev/null ERROR_VARIABLE dryrun OUTPUT_QUIET)
  string(REGEX MATCH "TOP=([^\n]+)" found "${dryrun}")
  get_filename_component(cuda_root "${CMAKE_MATCH_1}" REALPATH)
endif()
find_path(BATON_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_root}/include ${cuda_root}/targets/x86_64-linux/include
          /usr/local/cuda/include)
if(NOT BATON_CUDA_INCLUDE)
  message(FATAL_ERROR "BATON_CUDA=${BATON_CUDA} needs the CUDA headers (cuda_runtime_api.h); set BATON_CUDA_INCLUDE, "
                      "install the CUDA toolkit, or use -DBATON_CUDA=off")
endif()
include_directories(SYSTEM ${BATON_CUDA_INCLUDE})

if(BATON_CUDA STREQUAL "emulated")
  enable_language(CXX)
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
  add_compile_definitions(BT_EMULATED)
  include_directories(tests/emu)
  file(GLOB emu_sources CONFIGURE_DEPENDS tests/emu/emu_*.cpp tests/emu/emu_*.c)
  add_library(bt_emu STATIC ${emu_sources})
  target_link_libraries(bt_emu PUBLIC Threads::Threads dl stdc++ m)
  # The compiler's calls before each access of a kernel go to tests/emu/emu_race.c, not to its own runtime.
  option(BATON_EMU_RACE "emulated: races between the threads of a kernel are found; slow; without BATON_SANITIZE" OFF)
  set(emu_watch "")
  if(BATON_EMU_RACE AND NOT BATON_SANITIZE)
    set(emu_watch "-fsanitize=thread;")
  endif()
  function(baton_cuda_sources target folder)
    file(GLOB_RECURSE cu CONFIGURE_DEPENDS ${folder}/*.cu)
    if(cu)
      set_source_files_properties(${cu} PROPERTIES LANGUAGE CXX
        COMPILE_OPTIONS "-x;c++;${emu_watch}-fno-exceptions;-fno-rtti;-Wno-conversion;-Wno-extra;-Wno-class-memaccess;-Wno-unknown-pragmas;-Wno-shadow;-Wno-undef")
      target_sources(${target} PRIVATE ${cu})
      target_link_libraries(${target} PUBLIC bt_emu)
    endif()
  endfunction()
  return()
endif()

if(NOT BATON_NVCC)
  message(FATAL_ERROR "BATON_CUDA=on needs nvcc; put it on PATH, or use -DBATON_CUDA=off")
endif()
set(archs ${BATON_CUDA_ARCHS})
if(archs STREQUAL "native")
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE caps ERROR_QUIET
                  RESULT_VARIABLE failed)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]+" archs "${caps}")
  list(TRANSFORM archs REPLACE "\\." "")
  list(REMOVE_DUPLICATES archs)
  if(NOT archs)
    set(archs 80)
  endif()
endif()
if(archs STREQUAL "all")
  set(archs 75 80 86 89 90)
endif()
set(gencode "")
foreach(a ${archs})
  list(APPEND gencode "-gencode=arch=compute_${a},code=sm_${a}")
endforeach()
list(GET archs -1 newest) # newer devices compile it at their first start
list(APPEND gencode "-gencode=arch=compute_${newest},code=compute_${newest}")
find_library(BATON_CUDART cudart_static HINTS ${cuda_root}/lib64 ${cuda_root}/targets/x86_64-linux/lib ${cuda_root}/lib
             REQUIRED)
set(nvcc_flags -std=c++17 -O3 -lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall
               -I${CMAKE_SOURCE_DIR} -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/src ${gencode})
if(BATON_WERROR)
  list(APPEND nvcc_flags -Werror=all-warnings)
endif()
function(baton_cuda_sources target folder)
  file(GLOB_RECURSE cu CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cu)
  if(NOT cu)
    return()
  endif()
  set(objects "")
  foreach(f ${cu})
    get_filename_component(stem ${f} NAME_WE)
    set(o ${CMAKE_BINARY_DIR}/cuda/${stem}.o)
    # -Xptxas -v goes to a log a file: registers, shared memory and spills, which a test reads.
    add_custom_command(
      OUTPUT ${o}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda
      COMMAND ${CMAKE_SOURCE_DIR}/cmake/nvcc.sh ${o} ${BATON_NVCC} ${nvcc_flags} -Xptxas -v -MD -MF ${o}.d -c ${f} -o ${o}
      DEPENDS ${f} ${CMAKE_SOURCE_DIR}/cmake/nvcc.sh
      DEPFILE ${o}.d
      COMMENT "nvcc ${stem}.cu (${archs})" VERBATIM)
    list(APPEND objects ${o})
  endforeach()
  target_sources(${target} PRIVATE ${objects})
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  target_link_libraries(${target} PUBLIC ${BATON_CUDART} stdc++ rt dl Threads::Threads)
endfunction()
