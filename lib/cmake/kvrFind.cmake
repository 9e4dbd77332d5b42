# kvr_find(<name> <header> <Debian packages>): finds a C library by its header and makes the target kvr::dep_<name>.
# Sets KVR_MISSING to "" or to a sentence. Used by the build and, installed, by kvrConfig.cmake: an installed kvr so
# looks for its libraries again where it is used, instead of naming the paths of the machine that built it.
function(kvr_find name header packages)
  set(KVR_MISSING "" PARENT_SCOPE)
  if(TARGET kvr::dep_${name})
    return()
  endif()
  string(TOUPPER ${name} upper)
  find_path(KVR_${upper}_INCLUDE_DIR ${header})
  find_library(KVR_${upper}_LIBRARY ${name})
  mark_as_advanced(KVR_${upper}_INCLUDE_DIR KVR_${upper}_LIBRARY)
  if(NOT KVR_${upper}_INCLUDE_DIR OR NOT KVR_${upper}_LIBRARY)
    set(KVR_MISSING "${header} or the library ${name} is missing: install the Debian package ${packages}" PARENT_SCOPE)
    return()
  endif()
  # GLOBAL: a static library's dependencies are needed wherever it is linked.
  add_library(kvr::dep_${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(kvr::dep_${name} PROPERTIES IMPORTED_LOCATION "${KVR_${upper}_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${KVR_${upper}_INCLUDE_DIR}")
endfunction()
