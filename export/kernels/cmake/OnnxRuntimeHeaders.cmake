# ONNX Runtime's C headers: those that are named or installed, those that came with the sdist, or fetched through npm
# once, checked, and kept under third_party (never committed).

set(ONNXRUNTIME_INCLUDE_DIR "$ENV{ONNXRUNTIME_INCLUDE_DIR}" CACHE PATH "Folder that holds onnxruntime_c_api.h")
set(SPARSIFY_HEADERS ${CMAKE_CURRENT_SOURCE_DIR}/third_party/onnxruntime)

# The package is MIT-licensed and carries ONNX Runtime's headers with its licence; wheels of ONNX Runtime have none.
set(package com.github.asus4.onnxruntime)
set(package_version 0.4.9)
set(package_sha512 064cf176e499f4891e0cfe90f25cf64c553689eee1492bd2ed921fccca28131a2ad02373267bae19a509ec8b288c182a3b8a2e0f58d76a1f0e63225b08ddbd16)
set(package_headers "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers")
set(header_names onnxruntime_c_api.h onnxruntime_ep_c_api.h onnxruntime_error_code.h)

# Sets `variable` to the folder with onnxruntime_c_api.h, or stops with what to do.
function(sparsify_find_headers variable)
  if(ONNXRUNTIME_INCLUDE_DIR)
    if(NOT EXISTS ${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h)
      message(FATAL_ERROR " sparsify-kernels: ONNXRUNTIME_INCLUDE_DIR=${ONNXRUNTIME_INCLUDE_DIR} has no onnxruntime_c_api.h")
    endif()
    set(${variable} ${ONNXRUNTIME_INCLUDE_DIR} PARENT_SCOPE)
    return()
  endif()
  find_path(INSTALLED_HEADERS onnxruntime_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session)
  if(INSTALLED_HEADERS)
    set(${variable} ${INSTALLED_HEADERS} PARENT_SCOPE)
    return()
  endif()
  sparsify_fetch_headers()
  set(${variable} ${SPARSIFY_HEADERS} PARENT_SCOPE)
endfunction()

# Puts the pinned headers and their licence under third_party unless they are there.
function(sparsify_fetch_headers)
  if(EXISTS ${SPARSIFY_HEADERS}/LICENSE)
    return()
  endif()
  set(remedy "name a folder with onnxruntime_c_api.h in the environment variable ONNXRUNTIME_INCLUDE_DIR, or install npm")
  find_program(NPM npm NO_CMAKE_PATH NO_CMAKE_SYSTEM_PATH)  # the one that the user would run
  if(NOT NPM)
    message(FATAL_ERROR " sparsify-kernels: ONNX Runtime's headers are not installed and npm, which would fetch them, is not either; ${remedy}")
  endif()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/onnxruntime-headers)
  file(MAKE_DIRECTORY ${folder})
  message(STATUS "Fetching ONNX Runtime's headers: npm pack ${package}@${package_version} (150 MB)")
  execute_process(COMMAND ${NPM} pack --silent ${package}@${package_version} WORKING_DIRECTORY ${folder}
                  RESULT_VARIABLE failed ERROR_VARIABLE complaint OUTPUT_QUIET)
  set(archive ${folder}/${package}-${package_version}.tgz)
  if(failed OR NOT EXISTS ${archive})
    message(FATAL_ERROR " sparsify-kernels: npm could not fetch ${package}@${package_version}; ${remedy}\n${complaint}")
  endif()
  file(SHA512 ${archive} found)
  if(NOT found STREQUAL package_sha512)
    message(FATAL_ERROR " sparsify-kernels: ${package}@${package_version} is not the package that was pinned (SHA-512 ${found}); ${remedy}")
  endif()
  sparsify_unpack_headers(${archive} ${folder})
endfunction()

function(sparsify_unpack_headers archive folder)
  set(wanted)
  foreach(name IN LISTS header_names)
    list(APPEND wanted "${package_headers}/${name}")
  endforeach()
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${folder} PATTERNS package/LICENSE ${wanted})
  file(REMOVE ${archive})
  foreach(name IN LISTS header_names)
    file(COPY "${folder}/${package_headers}/${name}" DESTINATION ${SPARSIFY_HEADERS})
  endforeach()
  file(COPY ${folder}/package/LICENSE DESTINATION ${SPARSIFY_HEADERS})  # last: it says that all is there
endfunction()
