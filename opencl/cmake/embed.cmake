# cmake -DOUT=file.c -DFILES="a.cl;b.cl" -P embed.cmake: kernel sources as C character arrays kvri_ocl_source_<stem>.
# Arrays of numbers, because C99 promises only 4095 characters in a string literal.
set(text "/* Generated from opencl/kernels by opencl/cmake/embed.cmake. */\n#include \"kvr_ocl_source.h\"\n")
foreach(file IN LISTS FILES)
  get_filename_component(stem "${file}" NAME_WE)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n"
    bytes "${bytes}")
  string(APPEND text "const char kvri_ocl_source_${stem}[] = {\n${bytes}0};\n")
endforeach()
file(WRITE "${OUT}" "${text}")
