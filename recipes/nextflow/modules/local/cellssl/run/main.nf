process CELLSSL_RUN {
    tag "${meta.id}"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "cellssl:0.2.0"

    input:
    tuple val(meta), path(recipe), path(tables), path(images, stageAs: 'images/*'), path(platemap, stageAs: 'platemap/*')
    val store

    output:
    tuple val(meta), path("${prefix}/report.html"), emit: report
    tuple val(meta), path("${prefix}/scores.csv"), emit: scores
    tuple val(meta), path("${prefix}/hits.csv"), emit: hits, optional: true
    tuple val(meta), path("${prefix}/figures"), emit: figures
    tuple val(meta), path("${prefix}/artifact.json"), emit: card
    tuple val("${task.process}"), val('cellssl'), eval('cellssl --version'), topic: versions, emit: versions_cellssl

    when:
    task.ext.when == null || task.ext.when

    script:
    // Hashes of images are kept by path, so the path is that of the folder, not of the link in this task's folder.
    def args = task.ext.args ?: ''
    def root = images ? "--set fetch.dataset.root=\"\$(readlink -f ${images})\"" : ''
    def compounds = platemap ? "--set fetch.dataset.platemap=\"\$(readlink -f ${platemap})\"" : ''
    def results = store ? "--store '${store}'" : ''
    def device = task.accelerator ? '--device cuda' : ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    export OMP_NUM_THREADS=${task.cpus}
    cellssl run ${recipe} ${results} ${root} ${compounds} ${device} --jobs ${task.cpus} ${args} --output '${prefix}/'
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p '${prefix}/figures'
    touch '${prefix}/report.html' '${prefix}/scores.csv' '${prefix}/hits.csv' '${prefix}/artifact.json'
    """
}
