"""Files of any size: texts are embedded chunk by chunk, and an interrupted run resumes."""
