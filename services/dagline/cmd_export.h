/* `dagline export`: a trained policy as a diffusers folder, and adapters in the namings that other tools read. */
#ifndef DAGLINE_DAGLINE_CMD_EXPORT_H
#define DAGLINE_DAGLINE_CMD_EXPORT_H

int cmd_export(int argc, char **argv);

#endif
